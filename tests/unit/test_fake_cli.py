"""The command `fake-qemu`: a fake without pytest, and the audit of what it left."""

import contextlib
import dataclasses
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_gracekill.child.disk import Disk
from pytest_gracekill.child.journal import Journal
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.child.mark import await_end, state

COMMAND = [sys.executable, "-m", "pytest_gracekill.child.cli"]
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the command with its files in `tmp_path`; wait until its journal says ready."""
    (tmp_path / "tmp").mkdir()
    with contextlib.ExitStack() as stack:

        def run(*options: str) -> subprocess.Popen[bytes]:
            files = ["--disk", "d", "--journal", "j", "--pidfile", "p"]
            with (tmp_path / "stderr").open("ab") as stderr:
                fake = subprocess.Popen(
                    [*COMMAND, *files, *options],
                    cwd=tmp_path,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
                )
            stack.enter_context(fake)
            stack.callback(fake.kill)
            deadline = time.monotonic() + 20
            journal = Journal(tmp_path / "j")
            while journal.last("ready") is None:
                assert time.monotonic() < deadline, "not ready in 20 s"
                assert fake.poll() is None, (tmp_path / "stderr").read_text()
                time.sleep(0.005)
            return fake

        yield run


def await_empty(directory: Path) -> None:
    """Wait until the holder has gone: it removes its folder last."""
    deadline = time.monotonic() + 20
    while any(directory.iterdir()):
        assert time.monotonic() < deadline, f"{list(directory.iterdir())} left after 20 s"
        time.sleep(0.005)


def audit(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "audit", "--disk", "d", "--journal", "j"],
        cwd=directory, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def refused(directory: Path, *options: str) -> str:
    """Return what the command says to bad input; its temporary files would be in `directory`."""
    done = subprocess.run(
        [*COMMAND, "--disk", "d", "--journal", "j", *options],
        env=os.environ | {"TMPDIR": str(directory)},
        cwd=directory, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    return done.stderr


def test_the_pid_that_was_started_is_the_fake(start: Start, tmp_path: Path) -> None:
    fake = start("--flush-time", "0.1")
    assert int((tmp_path / "p").read_text()) == fake.pid
    fake.terminate()
    assert fake.wait(20) == 0
    assert fake.stdout is not None
    assert fake.stdout.read() == b""  # to its end: the holder does not keep it
    assert "terminating on signal 15" in (tmp_path / "stderr").read_text()
    done = audit(tmp_path)
    assert (done.returncode, done.stdout) == (0, "all 64 acknowledged blocks on disk\n")
    await_empty(tmp_path / "tmp")


def test_it_starts_where_sigchld_is_ignored(start: Start, tmp_path: Path) -> None:
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # which an exec keeps
    try:
        start("--flush-time", "0.1")
    finally:
        signal.signal(signal.SIGCHLD, old)
    assert (tmp_path / "stderr").read_text() == ""


def test_the_audit_fails_when_something_is_missing(start: Start, tmp_path: Path) -> None:
    fake = start("--blocks", "8", "--on-term", "crash:at=5,exit=3", "--flush-time", "0")
    fake.terminate()
    assert fake.wait(20) == 3
    done = audit(tmp_path)
    assert (done.returncode, done.stdout) == (1, "3 of 8 blocks lost: 5-7\n")


def test_an_audit_of_nothing_is_no_traceback(tmp_path: Path) -> None:
    done = audit(tmp_path)
    assert done.returncode == 1
    assert done.stdout == "the disk's journal j was damaged: no record of a start in it\n"
    assert done.stderr == ""


def test_qmp_and_qemus_options_behind_two_dashes(start: Start, tmp_path: Path) -> None:
    fake = start(
        "--flush-time", "0.1", "--qmp", "q", "--", "-m", "64", "-qmp", "stdio", "-name", "x"
    )
    assert fake.stdout is not None
    assert fake.stdout.readline().startswith(b'{"QMP": ')
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(tmp_path / "q"))
        client.sendall(
            b"{'execute': 'qmp_capabilities'}{'execute': 'query-name'}{'execute': 'quit'}"
        )
        told = b"".join(iter(lambda: client.recv(4096), b"")).decode().splitlines()
    assert told[1:3] == ['{"return": {}}', '{"return": {"name": "x"}}']
    assert '"reason": "host-qmp-quit"' in told[3]
    assert told[4:] == ['{"return": {}}']
    assert fake.wait(20) == 0
    assert audit(tmp_path).returncode == 0
    assert not (tmp_path / "q").exists()
    await_empty(tmp_path / "tmp")


def test_a_daemonised_fake_ends_with_whom_it_is_tied_to(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    with subprocess.Popen(["sleep", "600"]) as tied_to:
        files = ["--disk", "d", "--journal", "j", "--pidfile", "p", "--while", str(tied_to.pid)]
        try:
            done = subprocess.run(
                [*COMMAND, *files, "--", "-daemonize", "-pidfile", "p2"],
                cwd=tmp_path, timeout=60, capture_output=True, check=False,
                env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
            )  # fmt: skip
            assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
            assert (tmp_path / "p").read_text() == (tmp_path / "p2").read_text()
            pidfd = os.pidfd_open(int((tmp_path / "p").read_text()))
        finally:
            tied_to.kill()
    try:
        assert await_end(pidfd, 20)
    finally:
        os.close(pidfd)
    await_empty(tmp_path / "tmp")
    assert [entry.event for entry in Journal(tmp_path / "j").entries()][-1] == "ready"


def test_a_question_to_qemu_makes_no_fake(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--disk", "d", "--journal", "j", "--", "-version"],
        cwd=tmp_path, timeout=60, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.startswith("QEMU emulator version 7.2.22 (Debian ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--", "-qmp"], "-qmp: requires an argument (from the options after --)"),
        (
            ["--topology", "daemon", "--", "-daemonize"],
            "-daemonize with topology daemon: the VM is somebody else's child already",
        ),
    ],
)
def test_qemus_options_are_checked_before_anything_is_made(
    tmp_path: Path, options: list[str], text: str
) -> None:
    assert text in refused(tmp_path, *options)
    assert not list(tmp_path.iterdir())


def test_every_knob_is_an_option_with_its_default() -> None:
    done = subprocess.run(
        [*COMMAND, "--help"], capture_output=True, text=True, timeout=60, check=True,
        env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip
    for field in dataclasses.fields(Knobs):
        option = "--" + field.name.replace("_", "-")
        parts = [f"--{part}" for part in done.stdout.split("\n  --")]
        (line,) = [part for part in parts if part.startswith(option + " ") and "default" in part]
        shown = "none" if field.name in ("helper", "qmp") else field.default
        assert f"(default: {shown})" in " ".join(line.split())


def test_knobs_reach_the_fake(start: Start, tmp_path: Path) -> None:
    fake = start(
        "--topology", "daemon", "--helpers", "1", "--helper", "session,ignores_term",
        "--disk-lock", "false", "--exit-status", "4", "--flush-time", "0", "--seed", "9",
    )  # fmt: skip
    journal = Journal(tmp_path / "j")
    assert not Disk(tmp_path / "d", journal).locked()
    vm = int((tmp_path / "p").read_text())
    assert vm != fake.pid
    os.kill(vm, signal.SIGTERM)
    assert fake.wait(20) == 0
    ended = journal.last("exit")
    assert ended is not None
    assert ended.number("code") == 4
    begun = journal.last("start")
    assert begun is not None
    assert begun.number("seed") == 9
    # the helper that ignores SIGTERM is still there, and so is the holder
    helper = next(e.number("pid") for e in journal.entries() if e.fields.get("role") == "helper")
    assert state(helper) == "S"
    os.kill(helper, signal.SIGKILL)
    await_empty(tmp_path / "tmp")


@pytest.mark.parametrize("topology", ["child", "reaped", "wrapped", "leaderless"])
def test_it_does_not_outlive_the_process_that_it_was_tied_to(
    start: Start, tmp_path: Path, topology: str
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as master:
        try:
            fake = start("--while", str(master.pid), "--topology", topology, "--on-term", "ignore")
            vm = os.pidfd_open(int((tmp_path / "p").read_text()))
            assert not select.select([vm], [], [], 0)[0]
        finally:
            master.kill()
    assert select.select([vm], [], [], 20)[0]
    os.close(vm)
    fake.wait(20)
    await_empty(tmp_path / "tmp")


def test_it_does_not_outlive_its_lifetime(start: Start, tmp_path: Path) -> None:
    begin = time.monotonic()
    fake = start(
        "--lifetime", "1.5", "--on-term", "ignore", "--helpers", "1", "--helper", "session"
    )
    assert fake.wait(20) == -signal.SIGKILL
    assert time.monotonic() - begin >= 1.5
    await_empty(tmp_path / "tmp")


def test_the_orphan_of_a_killed_wrapper_lives_on(start: Start, tmp_path: Path) -> None:
    wrapper = start("--topology", "wrapped", "--flush-time", "0")
    vm = int((tmp_path / "p").read_text())
    pidfd = os.pidfd_open(vm)
    wrapper.terminate()
    assert wrapper.wait(20) == -signal.SIGTERM
    os.kill(vm, signal.SIGTERM)
    assert select.select([pidfd], [], [], 20)[0]
    os.close(pidfd)
    assert audit(tmp_path).returncode == 0


def test_a_disk_that_is_in_use_is_not_taken(start: Start, tmp_path: Path) -> None:
    start()
    assert "d is in use: another process has it locked (from --disk)" in refused(tmp_path)


def test_a_file_that_is_no_disk_of_ours_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(b"QFI\xfb precious")
    assert "d is not a fake's disk" in refused(tmp_path)
    assert (tmp_path / "d").read_bytes() == b"QFI\xfb precious"


def test_a_second_run_makes_the_disk_anew_and_is_judged_by_itself(
    start: Start, tmp_path: Path
) -> None:
    first = start("--flush-time", "0", "--blocks", "8")
    first.terminate()
    first.wait(20)
    await_empty(tmp_path / "tmp")
    (tmp_path / "j").rename(tmp_path / "before")
    second = start("--blocks", "4")
    both = (tmp_path / "before").read_bytes() + (tmp_path / "j").read_bytes()
    second.kill()
    second.wait(20)
    (tmp_path / "j").write_bytes(both)
    assert audit(tmp_path).stdout == "4 of 4 blocks lost: 0-3\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--flush-time", "-1"], "(from --flush-time)"),
        (["--flush-time", "nan"], "(from --flush-time)"),
        (["--blocks", "many"], "blocks='many': it has to be an int from 1 to 65536"),
        (["--on-term", "crash:at=99,exit=1"], "0 to blocks - 1 (from --on-term)"),
        (["--helper", "session"], "traits need helpers=1 or more (from --helper)"),
        (["--lifetime", "0"], "(from --lifetime)"),
        (["--lifetime", "inf"], "(from --lifetime)"),
        (["--while", "0"], "(from --while)"),
        (["--while", "me"], "me is not the pid of a process"),
        (["--journal", "no/such/folder"], "No such file or directory"),
        (["--flush"], "unrecognized arguments"),
    ],
)
def test_bad_input_is_one_error_before_anything_starts(
    tmp_path: Path, options: list[str], said: str
) -> None:
    assert said in refused(tmp_path, *options)
    assert list(tmp_path.iterdir()) == []
