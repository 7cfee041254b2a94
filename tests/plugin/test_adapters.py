"""Each kind of adapter with a routine as others write it, and with its wrong twin.

The right one passes every verdict; its twin differs by what people get wrong, and is caught by the
verdict and the word for that. The styles: Ganeti's KillProcess, the idioms of the documentation of
subprocess, psutil, asyncio and multiprocessing, a shell script, a supervisor with a configuration
and a control command, libvirt's way with its locks.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from pytest_gracekill import External, KillPolicy

if TYPE_CHECKING:
    from pytest_gracekill.child.unstarted import Child
    from pytest_gracekill.fixtures import Judge
    from pytest_gracekill.report import Report
    from pytest_gracekill.routine.model import Domain, Driver

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)

FLUSH = 0.5  # s
SHORT = FLUSH / 5  # what an impatient routine waits
LONG = 20.0


# -- pid, as Ganeti has it


def is_process_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill_process(pid: int, timeout: float = LONG) -> None:
    """SIGTERM, look now and then, SIGKILL."""
    if pid <= 0:
        raise ValueError(f"invalid pid {pid}")
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + timeout
    while is_process_alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    if is_process_alive(pid):
        os.kill(pid, signal.SIGKILL)
        while is_process_alive(pid):
            time.sleep(0.01)


def forgets_to_look(pid: int) -> bool:
    os.kill(pid, signal.SIGTERM)
    return True


# -- popen, as the documentation of subprocess has it


def popen_wait(popen: subprocess.Popen[bytes], timeout: float = LONG) -> int:
    popen.terminate()
    try:
        return popen.wait(timeout)
    except subprocess.TimeoutExpired:
        popen.kill()
        return popen.wait()


def popen_kill(popen: subprocess.Popen[bytes]) -> int:
    popen.kill()
    return popen.wait()


# -- process, as the documentation of psutil has it


def kill_proc_tree(process: psutil.Process, timeout: float = LONG) -> list[psutil.Process]:
    tree = [*process.children(recursive=True), process]
    for each in tree:
        each.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(tree, timeout=timeout)
    for each in alive:
        each.kill()
    return psutil.wait_procs(alive, timeout=LONG)[1]


def kill_proc_tree_without_kill(process: psutil.Process) -> bool:
    process.terminate()
    psutil.wait_procs([process], timeout=SHORT)
    return True  # whoever is alive


# -- child: a manager that starts it


class Machine:
    """Somebody's manager, with a shell around the VM as for a log file."""

    def __init__(self, command: str, directory: Path) -> None:
        self.log = directory / "machine.log"
        self.command = f"{command} 2>{self.log}; echo ended >>{self.log}"

    def start(self) -> None:
        self.shell = subprocess.Popen(self.command, shell=True, start_new_session=True)

    def stop(self, vm: int) -> None:
        os.kill(vm, signal.SIGTERM)
        self.shell.wait(LONG)

    def stop_the_group(self, _vm: int) -> None:
        os.killpg(self.shell.pid, signal.SIGTERM)
        self.shell.wait(LONG)  # which does not wait for the VM

    def stop_the_shell(self, _vm: int) -> None:
        self.shell.terminate()  # the VM is its child, and hears nothing of that
        self.shell.wait(LONG)

    def running(self) -> bool:
        return self.shell.poll() is None


def machine(child: Child, stop: Callable[[Machine, int], None]) -> Iterator[object]:
    manager = Machine(child.cmdline, child.dir)
    manager.start()
    yield (lambda: stop(manager, child.pid)), manager.running
    assert manager.log.exists()


def run_and_interrupt(child: Child) -> int:
    """The VM is started and stopped in one call."""
    with subprocess.Popen(child.argv) as vm:
        child.wait_ready()
        vm.send_signal(signal.SIGINT)
        return vm.wait(LONG)


def run_with_timeout(child: Child) -> bool:
    try:
        subprocess.run([child.program], timeout=1.0, check=False)  # SIGKILL at the timeout
    except subprocess.TimeoutExpired:
        return True
    return False


# -- child: workers of multiprocessing


def worker(child: Child, method: str, grace: float) -> Iterator[Callable[[], None]]:
    context = multiprocessing.get_context(method)
    process = context.Process(target=child.target)  # type: ignore[attr-defined]
    process.start()

    def stop() -> None:
        process.terminate()
        process.join(grace)
        if process.is_alive():
            process.kill()
            process.join()

    yield stop
    process.close()


# -- async, as the documentation of asyncio has it


async def aio_machine(child: Child, grace: float) -> AsyncIterator[Callable[[], object]]:
    process = await asyncio.create_subprocess_exec(*child.argv)

    async def stop() -> int:
        process.terminate()
        try:
            return await asyncio.wait_for(process.wait(), grace)
        except TimeoutError:
            process.kill()
            return await process.wait()

    yield stop
    await process.wait()


async def aio_pid(pid: int, grace: float) -> None:
    os.kill(pid, signal.SIGTERM)
    try:
        async with asyncio.timeout(grace):
            while is_process_alive(pid):  # noqa: ASYNC110 - a pid tells nobody of its end
                await asyncio.sleep(0.01)
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)


def asyncio_run(pid: int, grace: float) -> None:
    """Sync outside, as most commands are."""
    asyncio.run(aio_pid(pid, grace))


# -- external

STOP = """\
#!/bin/sh
# stop PID, and wait until it is gone
kill -"$2" "$1" || exit 1
for i in $(seq 2000); do
    kill -0 "$1" 2>/dev/null || exit 0
    sleep 0.01
done
exit 1
"""


def script(signal_name: str) -> External:
    return External(stop=f"{{dir}}/stop {{pid}} {signal_name}", files={"stop": STOP})


def supervised(**settings: object) -> External:
    """A daemon that runs the VM, with a control command."""
    supervise = [sys.executable, str(Path(__file__).parent / "supervise.py")]
    lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
    return External(
        start=[*supervise, "run", "{dir}/etc/vm.conf"],
        stop=[*supervise, "stop", "{dir}/etc/vm.conf"],
        files={"etc/vm.conf": f"[program:vm]\nhome = {{dir}}\nprogram = {{argv}}\n{lines}"},
    )


FOREGROUND = External(
    start="sh -c '{argv} & echo $! >{dir}/vm.pid; wait'",
    stop="sh -c 'kill $(cat {dir}/vm.pid) && while [ -e /proc/{pid} ]; do sleep 0.01; done'",
)
# one that nobody waits for: the stop command is through at once
IMPATIENT = External(start=FOREGROUND.start or "", stop="sh -c 'kill $(cat {dir}/vm.pid)'")


# -- driver


def drops_its_locks(driver: Driver, domain: Domain) -> bool:
    """Both are let go while it waits, and taken again in their order."""
    pid = domain.pid
    assert pid is not None
    domain.ref()
    domain.lock.release()
    driver.lock.release()
    try:
        kill_process(pid)
    finally:
        driver.lock.acquire()
        domain.lock.acquire()
        domain.unref()
    return True


def keeps_its_locks(driver: Driver, domain: Domain) -> bool:
    assert domain.pid is not None
    kill_process(domain.pid)
    return True


ROUTINES: dict[str, tuple[object, object, dict[str, str]]] = {
    "pid": (
        kill_process,
        partial(kill_process, timeout=SHORT),
        {"data": "DATA LOST", "escalation": "KILLED EARLY"},
    ),
    "pid, looks": (kill_process, forgets_to_look, {"outcome": "EARLY"}),
    "popen": (popen_wait, popen_kill, {"data": "DATA LOST", "escalation": "NEVER ASKED"}),
    "popen, waits": (
        popen_wait,
        partial(popen_wait, timeout=SHORT),
        {"data": "DATA LOST", "escalation": "KILLED EARLY"},
    ),
    "process": (kill_proc_tree, kill_proc_tree_without_kill, {"outcome": "EARLY"}),
    "process, waits": (
        kill_proc_tree,
        partial(kill_proc_tree, timeout=SHORT),
        {"data": "DATA LOST", "escalation": "KILLED EARLY"},
    ),
    "manager": (
        partial(machine, stop=Machine.stop),
        partial(machine, stop=Machine.stop_the_shell),
        {"outcome": "LEAKED"},
    ),
    "manager, group": (
        partial(machine, stop=Machine.stop),
        partial(machine, stop=Machine.stop_the_group),
        {"outcome": "EARLY"},
    ),
    "in one call": (run_and_interrupt, run_with_timeout, {"data": "DATA LOST"}),
    "async manager": (
        partial(aio_machine, grace=LONG),
        partial(aio_machine, grace=SHORT),
        {"data": "DATA LOST", "escalation": "KILLED EARLY"},
    ),
    "async": (
        partial(aio_pid, grace=LONG),
        partial(aio_pid, grace=SHORT),
        {"data": "DATA LOST", "escalation": "KILLED EARLY"},
    ),
    "asyncio.run": (
        partial(asyncio_run, grace=LONG),
        partial(asyncio_run, grace=SHORT),
        {"data": "DATA LOST", "escalation": "KILLED EARLY"},
    ),
    "command": (
        script("TERM"),
        script("KILL"),
        {"data": "DATA LOST", "escalation": "NEVER ASKED"},
    ),
    "foreground": (FOREGROUND, IMPATIENT, {"outcome": "EARLY"}),
    "daemon": (
        supervised(stopwaitsecs=LONG, restart=True),
        supervised(stopwaitsecs=SHORT, restart=True),
        {"data": "DATA LOST", "escalation": "KILLED EARLY"},
    ),
    "daemon, signal": (
        supervised(signal="SIGHUP"),
        supervised(signal="SIGCHLD", background=True),
        {"outcome": "LEAKED"},
    ),
    "driver": (
        drops_its_locks,
        keeps_its_locks,
        {"progress": "STALLED", "locks": "HELD OVER WAIT"},
    ),
}
for way in ("fork", "spawn", "forkserver"):
    ROUTINES[f"worker, {way}"] = (
        partial(worker, method=way, grace=LONG),
        partial(worker, method=way, grace=SHORT),
        {"data": "DATA LOST", "escalation": "KILLED EARLY"},
    )

# a fork beside the threads of ours: the worker runs nothing of theirs
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@forks
@pytest.mark.parametrize("kind", ROUTINES)
def test_the_right_one_raises_no_alarm(gracekill: Judge, kind: str) -> None:
    right = ROUTINES[kind][0]
    # how prompt it is, is no matter here: a shell has to come to its end on a busy machine, too
    report = gracekill(right, flush_time=FLUSH, slack=LONG)  # type: ignore[arg-type]
    report.check()
    assert report.disk.acknowledged
    assert not report.disk.lost
    assert {"data", "escalation", "outcome", "promptness", "leftovers"} <= set(report.verdicts)


@forks
@pytest.mark.parametrize("kind", ROUTINES)
def test_its_wrong_twin_is_caught(gracekill: Judge, kind: str) -> None:
    _, wrong, caught = ROUTINES[kind]
    report = gracekill(wrong, flush_time=FLUSH)  # type: ignore[arg-type]
    broken = {name: v.word for name, v in report.verdicts.items() if v.status == "broken"}
    assert broken.items() >= caught.items(), report
    check_the_evidence(report, caught)


def test_a_policy_reaches_the_routines_own_grace(gracekill: Judge) -> None:
    # its own default would be long enough
    report = gracekill(kill_process, policy=KillPolicy(grace=SHORT), flush_time=FLUSH)
    assert report.verdicts["escalation"].word == "KILLED EARLY"
    assert report.disk.lost


def check_the_evidence(report: Report, caught: dict[str, str]) -> None:
    verdicts = report.verdicts
    if caught.get("data") == "DATA LOST":
        assert report.disk.lost == list(range(report.disk.lost[0], 64)), "the later blocks"
        assert "acknowledged, never on disk" in verdicts["data"].evidence
    if caught.get("escalation") == "KILLED EARLY":
        assert f"the flush needed {FLUSH:.2f} s" in verdicts["escalation"].evidence
    if caught.get("outcome") == "EARLY":
        assert "the VM still ran, and exited at t+" in verdicts["outcome"].evidence
        assert not report.disk.lost
    if caught.get("outcome") == "LEAKED":
        assert "the VM lives on" in verdicts["outcome"].evidence
        assert "data" in report.not_judged, "nobody has lost anything yet"
    if "progress" in caught:
        assert report.longest_stall is not None
        assert report.longest_stall > FLUSH / 2
