"""The traps that a field survey of kill routines fell into, one test each, in its order.

Where it can be shown, the test also shows the trap itself: what would be seen by a harness that had
fallen into it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.connection
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill import External, KillFlags
from pytest_gracekill.child.unstarted import Unstarted

if TYPE_CHECKING:
    import psutil

    from pytest_gracekill.child.unstarted import Adapter, Child
    from pytest_gracekill.fixtures import Judge, StartFake

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)

LONG = 20.0  # s


def exists(pid: int) -> bool:
    """As most routines ask: a zombie exists, too."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# -- 1


def kill_and_poll(pid: int) -> bool:
    os.kill(pid, signal.SIGTERM)
    for _ in range(200):
        if not exists(pid):
            return True
        time.sleep(0.01)
    return False


def test_1_a_pid_routine_gets_a_child_that_somebody_else_reaps(gracekill: Judge) -> None:
    report = gracekill(kill_and_poll, flush_time=0.1)
    report.check()
    assert report.result is True
    # the trap: our own zombie never goes, and a right routine looks slow and lying
    trapped = gracekill(kill_and_poll, flush_time=0.1, topology="child")
    assert trapped.result is False
    assert trapped.verdicts["outcome"].word == "LIED"
    assert trapped.verdicts["promptness"].word == "SLOW"


# -- 2

forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def become(argv: list[str]) -> None:
    os.execv(argv[0], argv)


@forks
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_2_a_worker_keeps_its_sentinel(gracekill: Judge, method: str) -> None:
    seen: list[bool] = []

    def manager(child: Child) -> Iterator[Callable[[], None]]:
        context = multiprocessing.get_context(method)
        process = context.Process(target=child.target)  # type: ignore[attr-defined]
        process.start()

        def stop() -> None:
            process.terminate()
            process.join(0.1)
            seen.append(process.is_alive())
            process.join(LONG)
            seen.append(process.is_alive())

        yield stop

    gracekill(manager, flush_time=0.5).check()
    assert seen == [True, False], "join(0.1) timed out, join(20) did not"


@forks
def test_2_the_trap_itself(gracekill: Judge) -> None:
    seen: list[bool] = []

    def manager(child: Child) -> Iterator[Callable[[], None]]:
        context = multiprocessing.get_context("fork")
        process = context.Process(target=become, args=(child.argv,))
        process.start()
        child.wait_ready()
        seen.append(bool(multiprocessing.connection.wait([process.sentinel], LONG)))
        seen.append(exists(child.pid))

        def stop() -> None:
            process.terminate()
            process.join()

        yield stop

    gracekill(manager, flush_time=0.1).check()
    assert seen == [True, True], "exec has closed the sentinel of a worker that lives"


# -- 3


def test_3_nothing_is_told_by_the_environment_or_by_descriptors(gracekill: Judge) -> None:
    def manager(child: Child) -> Iterator[Callable[[], object]]:
        command = ["env", "-i", "PATH=/nowhere", *child.argv]
        vm = subprocess.Popen(command, env={"NOTHING": ""}, close_fds=True, cwd="/")
        child.wait_ready()

        def stop() -> int:
            vm.terminate()
            return vm.wait(LONG)

        yield stop

    report = gracekill(manager, flush_time=0.1, blocks=7, exit_status=5)
    report.check()
    assert report.disk.acknowledged == list(range(7))
    assert report.result == 5


# -- 4


def test_4_the_pid_of_what_was_started_is_not_the_vms(gracekill: Judge) -> None:
    pids: list[int] = []

    def manager(child: Child) -> Iterator[Callable[[], object]]:
        shell = subprocess.Popen(f"{child.cmdline}; exit 3", shell=True)
        child.wait_ready()
        pids.extend((shell.pid, child.pid, int(child.pid_file.read_text())))
        program = Path(f"/proc/{child.pid}/cmdline").read_text().split("\0")
        assert child.program in program

        def stop() -> int:
            os.kill(child.pid, signal.SIGTERM)
            return shell.wait(LONG)

        yield stop

    report = gracekill(manager, flush_time=0.1)
    report.check()
    shell, vm, told = pids
    assert vm == told != shell
    assert report.result == 3, "the shell's status"


# -- 5


def test_5_options_of_qemus_are_tolerated_and_the_version_is_told(gracekill: Judge) -> None:
    versions: list[str] = []
    options = ["-nodefaults", "-m", "512", "-drive", "file=x,if=virtio", "-device", "virtio-scsi"]

    def manager(child: Child) -> Iterator[Callable[[], object]]:
        asked = subprocess.run([child.program, "-version"], capture_output=True, check=True)
        versions.append(asked.stdout.decode())
        vm = subprocess.Popen([child.program, *options, "-display", "none"])

        def stop() -> int:
            vm.terminate()
            return vm.wait(LONG)

        child.wait_ready()
        yield stop

    gracekill(manager, flush_time=0.1).check()
    assert versions[0].startswith("QEMU emulator version ")


# -- 6


def pid_routine(pid: int) -> object:
    handler = signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # ValueError in any other thread
    signal.signal(signal.SIGUSR1, handler)
    return kill_and_poll(pid)


async def async_routine(pid: int) -> object:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, list)  # RuntimeError elsewhere
    os.kill(pid, signal.SIGTERM)
    while exists(pid):  # noqa: ASYNC110 - a pid tells nobody of its end
        await asyncio.sleep(0.01)
    return True


def manager_routine(child: Child) -> Iterator[Callable[[], object]]:
    assert threading.current_thread() is threading.main_thread()
    vm = subprocess.Popen(child.argv)
    child.wait_ready()

    def stop() -> bool:
        handler = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, handler)
        vm.terminate()
        return vm.wait(LONG) == 0

    yield stop
    assert threading.current_thread() is threading.main_thread()


@pytest.mark.parametrize("routine", [pid_routine, async_routine, manager_routine])
def test_6_the_routine_runs_in_the_main_thread_and_contenders_beside_it(
    gracekill: Judge, routine: Callable[..., object]
) -> None:
    threads: set[threading.Thread] = set()

    def other_work() -> None:
        threads.add(threading.current_thread())

    report = gracekill(routine, contend=[other_work], flush_time=0.3)
    report.check()
    assert report.result is True, "a signal handler could be set"
    assert threads
    assert threading.main_thread() not in threads


# -- 7


def test_7_what_hangs_is_freed_by_the_end_of_everything_that_is_marked(gracekill: Judge) -> None:
    freed: list[bytes] = []

    def reads_to_the_end(popen: subprocess.Popen[bytes]) -> None:
        popen.kill()
        assert popen.stdout is not None
        freed.append(popen.stdout.read())  # a helper holds it open

    report = gracekill(reads_to_the_end, budget=1.0, helpers=1, helper={"holds_stdout", "session"})
    assert report.verdicts["promptness"].word == "HUNG"
    assert "in reads_to_the_end" in str(report)
    assert freed == [b""], "it was not interrupted: the end of file came"


def test_7_and_what_is_not_freed_by_a_signal_to_the_main_thread(gracekill: Judge) -> None:
    ended: list[str] = []

    def hangs(pid: int) -> None:
        try:
            threading.Event().wait()
        finally:
            ended.append(threading.current_thread().name)

    report = gracekill(hangs, budget=0.5)
    assert report.verdicts["promptness"].word == "HUNG"
    assert "in hangs" in str(report)
    assert ended == ["MainThread"]


# -- 8


def test_8_leftovers_are_found_by_the_mark_not_by_parentage(gracekill: Judge) -> None:
    parents: list[int] = []

    def manager(child: Child) -> Iterator[Callable[[], object]]:
        # twice forked, in a session of its own, and away from whoever started it
        script = '(setsid setsid sh -c \'exec "$@"\' sh "$@" &)'
        subprocess.run(["sh", "-c", script, "sh", *child.argv], check=True)
        child.wait_ready()
        status = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        parents.append(int(status[1]))

        def stop() -> bool:
            os.kill(child.pid, signal.SIGTERM)
            while exists(child.pid):
                time.sleep(0.01)
            return True

        yield stop

    report = gracekill(manager, flush_time=0.1, helpers=2, helper={"session", "ignores_term"})
    assert os.getpid() not in parents
    assert report.verdicts["data"].status == report.verdicts["outcome"].status == "ok"
    assert report.verdicts["leftovers"].word == "ORPHANS"
    assert report.verdicts["leftovers"].evidence.count("helper ") == 2


# -- 9


def test_9_an_end_of_file_that_comes_before_the_exit_is_not_early(gracekill: Judge) -> None:
    def until_end_of_file(popen: subprocess.Popen[bytes]) -> None:
        popen.terminate()
        assert popen.stdout is not None
        popen.stdout.read()  # the kernel closes files before it tells of the exit

    gracekill(until_end_of_file, flush_time=0.1).check()


@pytest.mark.parametrize(
    ("flags", "status", "word"),
    [(KillFlags.FORCE, "broken", "EARLY"), (KillFlags.NOWAIT, "ok", "ok")],
    ids=str,
)
def test_9_early_by_design_is_no_flaw(
    gracekill: Judge, flags: KillFlags, status: str, word: str
) -> None:
    def sends_and_goes(pid: int, flags: KillFlags) -> None:
        os.kill(pid, signal.SIGTERM)

    verdict = gracekill(sends_and_goes, flags=flags, flush_time=0.4).verdicts["outcome"]
    assert (verdict.status, verdict.word) == (status, word)


# -- 10


def nothing_pid(pid: int) -> None: ...
def nothing_popen(popen: subprocess.Popen[bytes]) -> None: ...
def nothing_process(process: psutil.Process) -> None: ...
async def nothing_async(pid: int) -> None: ...
def nothing_in_one_call(child: Child) -> None:
    subprocess.Popen(child.argv, start_new_session=True)


def nothing_child(child: Child) -> Iterator[Callable[[], None]]:
    vm = subprocess.Popen(child.argv)
    yield lambda: None
    assert vm.returncode is None, "nobody has waited for it"
    vm.wait(LONG)


NOTHING = [
    nothing_pid,
    nothing_popen,
    nothing_process,
    nothing_async,
    nothing_child,
    nothing_in_one_call,
    External(stop="true {pid}"),
    External(start="{program}", stop="true"),
]


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
@pytest.mark.parametrize("routine", NOTHING, ids=lambda value: getattr(value, "__name__", None))
def test_10_a_vm_that_got_no_signal_is_leaked_and_has_lost_nothing(
    gracekill: Judge, routine: Callable[..., object]
) -> None:
    report = gracekill(routine, flush_time=5)
    assert report.verdicts["outcome"].word == "LEAKED"
    assert report.not_judged["data"] == "the VM still ran at the end, and the trial ended it"
    assert "DATA LOST" not in str(report)
    assert not report.sigkill_sent, "the trial's own does not count"


def slow_in_one_call(child: Child) -> None:
    subprocess.Popen(["sh", "-c", f"sleep 0.2; exec {child.cmdline}"], start_new_session=True)


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_10_a_vm_that_comes_up_while_it_is_looked_for_has_been_left_running(
    gracekill: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = Unstarted.check_started_once

    def look_late(unstarted: Unstarted, by: Adapter, *, called: bool = False) -> None:
        unstarted.wait_ready(LONG)
        look(unstarted, by, called=called)

    monkeypatch.setattr(Unstarted, "check_started_once", look_late)
    report = gracekill(slow_in_one_call, flush_time=5)
    assert report.verdicts["outcome"].word == "LEAKED"


BUSY = """
import os, sys, time
core, *threads = map(int, sys.argv[1:])
os.sched_setaffinity(0, {core})
until = time.monotonic() + 0.6
others = []
while len(others) < 50 and (pid := os.fork()):
    others.append(pid)
if len(others) == 50:
    print("busy", flush=True)
else:
    os.setsid()  # the kernel may share the CPU among sessions
while time.monotonic() < until:
    pass
for pid in others:
    os.waitpid(pid, 0)
for thread in threads:
    os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
"""


@pytest.mark.parametrize("topology", ["child", "leaderless"])
def test_10_a_vm_that_was_asked_and_got_no_cpu_yet_is_not_leaked(
    gracekill: Judge, topology: str
) -> None:
    def ask_it_while_it_gets_no_cpu(pid: int) -> bool:
        core = min(os.sched_getaffinity(0))
        threads = [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
        threads = [thread for thread in threads if thread != pid or topology == "child"]
        for thread in threads:
            os.sched_setaffinity(thread, {core})
            os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
        argv = [sys.executable, "-I", "-S", "-c", BUSY, *map(str, (core, *threads))]
        busy = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE))
        assert busy.stdout is not None
        busy.stdout.readline()
        os.kill(pid, signal.SIGTERM)
        return True

    with ExitStack() as stack:
        report = gracekill(ask_it_while_it_gets_no_cpu, flush_time=0.1, topology=topology)
    assert report.verdicts["outcome"].word == "EARLY", report


# -- 11


def eats_by_waitpid(popen: subprocess.Popen[bytes]) -> bool:
    popen.terminate()
    return os.waitpid(popen.pid, 0)[1] != 0


def eats_by_ignoring_children(popen: subprocess.Popen[bytes]) -> bool:
    handler = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    popen.terminate()
    try:
        return popen.wait(LONG) == 0  # subprocess makes 0 of a status that is gone
    finally:
        signal.signal(signal.SIGCHLD, handler)


@pytest.mark.parametrize("routine", [eats_by_waitpid, eats_by_ignoring_children])
def test_11_an_exit_status_that_was_eaten_is_in_the_journal(
    gracekill: Judge, fake_qemu: StartFake, routine: Callable[..., object]
) -> None:
    vm = fake_qemu(flush_time=0.1, exit_status=3)
    report = gracekill(routine, vm=vm)
    report.check()
    assert report.result is True
    assert vm.exit is not None
    assert (vm.exit.code, vm.exit.signal) == (3, None)
