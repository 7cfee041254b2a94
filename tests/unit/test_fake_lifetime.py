"""Nothing of a fake outlives its keeper, and nothing is left after it was closed."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from pytest_gracekill.child import disk, programfile
from pytest_gracekill.child import launch as launching
from pytest_gracekill.child import mark as marks
from pytest_gracekill.child.handle import spawn
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.errors import StartError, UsageError

TOPOLOGIES = ("child", "reaped", "zombie", "daemon", "wrapped", "leaderless")

KEEPER = """
import json, os, pathlib, signal, sys, time
from pytest_gracekill.child.handle import spawn
from pytest_gracekill.child.knobs import Knobs
directory, topology, state = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
knobs = Knobs(topology=topology, helpers=2, helper={"session", "ignores_term"}, guest="flushing")
fake = spawn(knobs, directory)
pids = [fake.pid, fake._process.pid, *fake.processes()]
if state == "stopped":
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
forked = os.fork()
if forked == 0:
    time.sleep(600)
print(json.dumps({"pids": pids, "forked": forked}), flush=True)
time.sleep(600)
"""


def ended(pidfd: int, timeout: float = 20) -> bool:
    return bool(select.select([pidfd], [], [], timeout)[0])


@pytest.mark.parametrize("state", ["running", "stopped"])
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_everything_goes_when_its_keeper_is_sigkilled(
    tmp_path: Path, topology: str, state: str
) -> None:
    command = [sys.executable, "-c", KEEPER, str(tmp_path / "fake"), topology, state]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as keeper:
        try:
            assert keeper.stdout is not None
            told = json.loads(keeper.stdout.readline())
            pidfds = {pid: os.pidfd_open(pid) for pid in told["pids"]}
            forked = os.pidfd_open(told["forked"])
        finally:
            keeper.kill()
    try:
        # the fork of the keeper lives on, and does not keep the fake alive
        left = [pid for pid, pidfd in pidfds.items() if not ended(pidfd)]
        assert [(pid, marks.state(pid)) for pid in left] == []
        assert len(pidfds) == (3 if topology in ("child", "leaderless") else 4)
        assert not ended(forked, 0)
    finally:
        signal.pidfd_send_signal(forked, signal.SIGKILL)
        for pidfd in (forked, *pidfds.values()):
            os.close(pidfd)


def descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  # names are enough
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115  # as above
        except FileNotFoundError:
            continue  # the listing's own
    return found


@pytest.mark.parametrize("end", ["alive", "stopped", "killed", "flushed", "reaped by the routine"])
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_close_leaves_nothing(tmp_path: Path, topology: str, end: str) -> None:
    before, threads = descriptors(), set(threading.enumerate())
    fake = spawn(
        Knobs.from_values(
            {
                "flush_time": 0,
                "topology": topology,
                "reaper_delay": 0.3,
                "helpers": 1,
                "helper": {"ignores_term"},
            }
        ),
        tmp_path / "fake",
    )
    assert fake._process is not None
    pids = {fake.pid, fake._process.pid, *fake.processes()}
    watched = {pid: os.pidfd_open(pid) for pid in pids}
    assert fake._mark.holders() == sorted(pids)
    if end == "stopped":
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    elif end != "alive":
        os.kill(fake.pid, signal.SIGTERM if end == "flushed" else signal.SIGKILL)
        fake.wait(20)
        if end == "reaped by the routine":
            fake._process.wait(20)
    fake.close()
    fake.close()
    for pid, pidfd in watched.items():
        assert ended(pidfd, 0), f"{pid} {marks.state(pid)}"
        os.close(pidfd)
    assert fake.processes() == []
    assert fake.exit is not None
    assert (fake.exit.code if end == "flushed" else fake.exit.signal) == (
        0 if end == "flushed" else 9
    )
    assert not fake.alive
    assert descriptors() == before
    assert set(threading.enumerate()) - threads == set()
    # a VM that ends by itself takes its pid file away; one that is killed cannot
    kept = {"disk", "journal", "qemu-system-x86_64", "stderr"} | (
        set() if end == "flushed" else {"pid"}
    )
    assert {path.name for path in fake.dir.iterdir()} == kept
    with pytest.raises(ChildProcessError):
        os.waitpid(fake._process.pid, os.WNOHANG)


def test_kill_spares_a_process_that_has_only_the_write_end(tmp_path: Path) -> None:
    """As a child of ours has between fork and exec."""
    fake = spawn(Knobs(), tmp_path / "fake")
    write_end = fake._mark.fileno()
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE,
                                 pass_fds=[write_end])  # fmt: skip
    try:
        assert bystander.pid not in fake._mark.holders()
        assert fake._mark.strike(bystander.pid) == -1
        fake.kill()
        assert bystander.poll() is None
    finally:
        bystander.communicate(b"\n", timeout=20)
        fake.close()
    assert bystander.returncode == 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_of_ours_neither_keeps_nor_ends_the_fake(tmp_path: Path) -> None:
    fake = spawn(Knobs(), tmp_path / "fake")
    try:
        pid = os.fork()
        if pid == 0:
            fake.close()
            fake.kill()
            os._exit(0 if not any(link.endswith("/mark") for link in descriptors().values()) else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert fake.alive
    finally:
        fake.close()


def test_the_thread_that_started_it_may_end(tmp_path: Path) -> None:
    fakes = []
    thread = threading.Thread(target=lambda: fakes.append(spawn(Knobs(), tmp_path / "fake")))
    thread.start()
    thread.join()
    (fake,) = fakes
    os.kill(fake.pid, signal.SIGTERM)
    assert fake.wait(20).code == 0
    fake.close()


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_fake_that_dies_at_start_is_told_with_its_last_words(
    tmp_path: Path, topology: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors()
    monkeypatch.setattr(disk, "create", lambda path, **_: path.mkdir())
    with pytest.raises(StartError) as raised:
        spawn(Knobs.from_values({"topology": topology}), tmp_path / "fake")
    said = str(raised.value)
    assert re.search(r"ended \((status|signal) \d+\) before it was ready", said)
    assert "IsADirectoryError" in said
    assert " start pid=" in said
    assert descriptors() == before
    assert not (tmp_path / "fake" / "mark").exists()


def test_a_fake_that_is_too_slow_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, children = descriptors(), psutil.Process().children()
    monkeypatch.setattr(launching, "READY_WITHIN", 0.0)
    with pytest.raises(StartError, match="was not ready after 0 s"):
        spawn(Knobs(topology="daemon"), tmp_path / "fake")
    assert descriptors() == before
    assert set(psutil.Process().children()) <= set(children)


def test_each_fake_needs_a_directory_of_its_own(tmp_path: Path) -> None:
    fake = spawn(Knobs(), tmp_path)
    try:
        with pytest.raises(UsageError, match="has a fake already"):
            spawn(Knobs(), tmp_path)
        assert fake.alive
    finally:
        fake.close()


def test_paths_may_hold_anything(tmp_path: Path) -> None:
    fake = spawn(Knobs(flush_time=0), tmp_path / "a b'c\"d\\e\u00e9\n{f}")
    try:
        os.kill(fake.pid, signal.SIGTERM)
        assert fake.wait(20).code == 0
        assert fake.disk.audit().ok
    finally:
        fake.close()


def test_an_interpreter_with_a_long_name_or_a_space_still_runs_the_program_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel takes neither in a `#!` line."""
    interpreter = tmp_path / "with space" / ("x" * 200)
    interpreter.parent.mkdir()
    interpreter.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    program = tmp_path / "program"
    program.write_text(f"{programfile.shebang()}\nimport sys\nprint(sys.flags.isolated)\n")
    program.chmod(0o755)
    done = subprocess.run([program], capture_output=True, timeout=20, check=True)
    assert done.stdout == b"1\n"


def test_many_at_once(tmp_path: Path) -> None:
    fakes = [spawn(Knobs(flush_time=0.1), tmp_path / str(number)) for number in range(8)]
    for fake in fakes:
        os.kill(fake.pid, signal.SIGTERM)
    for fake in fakes:
        assert fake.wait(20).code == 0
        assert fake.disk.audit().ok
        fake.close()


def test_nothing_that_costs_time_is_imported_before_readiness() -> None:
    child = Path(programfile.__file__).parent
    code = (
        f"import sys; sys.path.insert(0, {str(child)!r}); import program.boot; print(*sys.modules)"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    names = set(loaded.stdout.split())
    assert "program.machine" in names
    costly = {"signal", "json", "socket", "threading", "argparse", "ctypes", "enum", "zlib",
              "typing", "__future__", "re", "contextlib", "pathlib", "dataclasses"}  # fmt: skip
    assert names & costly == set()
    # what the machine imports by itself comes after readiness
    assert not [name for name in names if name.endswith((".flushing", ".blockformat"))]


def test_names_of_the_program_shadow_nothing_of_the_standard_library() -> None:
    child = Path(programfile.__file__).parent
    assert "program" not in sys.stdlib_module_names
    for path in child.iterdir():
        # child/ is on sys.path while the program's first module is imported
        assert path.stem not in sys.stdlib_module_names, path


def test_waiting_for_the_end_of_the_flush_needs_no_polling(tmp_path: Path) -> None:
    fake = spawn(Knobs(flush_time=0.2), tmp_path / "fake")
    try:
        os.kill(fake.pid, signal.SIGTERM)
        assert fake.wait().code == 0
        assert ended(fake.pidfd, 0)
        assert fake.exit is not None
        assert fake.exit.at <= time.monotonic()
    finally:
        fake.close()
