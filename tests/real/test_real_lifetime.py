"""No real QEMU outlives pytest: whatever the program, whoever started it, stopped or not.

A pytest of its own is killed in the middle of a trial, when QEMU stands before the gate. Everybody
who has a file of the trial open is looked up before that, and watched by pidfd.
"""

from __future__ import annotations

import glob
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gracekill.fixtures import StartReal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="marks and pidfds are Linux's")

WITHIN = 60.0
GONE_WITHIN = 20.0

TRIAL = """
import os, signal

def test_trial(gracekill, real_qemu):
    vm = real_qemu(gate="held", program={program!r}, topology={topology!r}, qmp=True)

    def stop(pid):
        os.kill(vm.pid, signal.SIGTERM)
        assert vm.gate.seen.wait(30)
        if {stopped}:
            os.kill(vm.pid, signal.SIGSTOP)
        (vm.dir / "stands").touch()
        vm.wait(600)

    gracekill(stop, vm=vm, budget=600)
"""

# how many processes there are besides QEMU
BESIDE = {"child": 0, "reaped": 1, "zombie": 1, "daemon": 1, "wrapped": 1}


def having_open(folder: Path) -> set[int]:
    """Every process that has any file below this folder open."""
    found = set()
    for link in glob.iglob("/proc/[0-9]*/task/*/fd/*"):  # noqa: PTH207 - skips what vanishes
        with suppress(OSError):
            if os.readlink(link).startswith(f"{folder}/"):  # noqa: PTH115 - may be no path
                found.add(int(link.split("/")[2]))
    return found


def listens_below(folder: Path) -> list[str]:
    """The UNIX sockets with a path below the folder that somebody has open."""
    lines = Path("/proc/net/unix").read_text(encoding="ascii", errors="replace").splitlines()
    return [line for line in lines if f"{folder}/" in line]


def ended(pidfd: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(max(deadline - time.monotonic(), 0.0) * 1000))


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Pytests that a test has started; none is left."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait(WITHIN)


@pytest.mark.parametrize("stopped", [False, True], ids=["", "stopped"])
@pytest.mark.parametrize("topology", ["child", "reaped", "daemon", "wrapped"])
@pytest.mark.parametrize("program", ["qemu", "storage-daemon"])
def test_no_qemu_outlives_a_pytest_that_is_killed(
    real_qemu: StartReal,
    killed: list[subprocess.Popen[bytes]],
    tmp_path: Path,
    program: str,
    topology: str,
    *,
    stopped: bool,
) -> None:
    real_qemu(blocks=1, program=program).close()  # skipped here, not in there
    module = tmp_path / "test_trial.py"
    module.write_text(TRIAL.format(program=program, topology=topology, stopped=stopped))
    folder = tmp_path / "b"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--basetemp={folder}"]
    with (tmp_path / "output").open("wb") as output:
        run = subprocess.Popen(
            [*command, f"--rootdir={tmp_path}", str(module)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
        )
    killed.append(run)
    deadline = time.monotonic() + WITHIN
    while not (stands := list(folder.glob("gracekill[0-9]*/stands"))):
        assert run.poll() is None, (tmp_path / "output").read_text()
        assert time.monotonic() < deadline, f"waited {WITHIN:g} s for QEMU at the gate"
        time.sleep(0.01)  # between two looks
    entries = [json.loads(line) for line in stands[0].with_name("journal").open(encoding="ascii")]
    known = {entry["pid"] for entry in entries if entry["event"] == "role"}
    watched = {pid: os.pidfd_open(pid) for pid in having_open(folder) - {run.pid}}
    try:
        assert set(watched) == known
        assert len(known) == 1 + BESIDE[topology]
        assert not any(ended(fd, 0) for fd in watched.values())
        assert listens_below(folder), "the QMP socket is there"
        run.kill()
        until = time.monotonic() + GONE_WITHIN
        alive = [pid for pid, fd in watched.items() if not ended(fd, until)]
        assert not alive, f"still there {GONE_WITHIN:g} s after SIGKILL"
        run.wait(WITHIN)
        assert having_open(folder) == set()
        assert listens_below(folder) == []
    finally:
        for fd in watched.values():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            os.close(fd)
