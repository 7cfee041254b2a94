"""What others do to the trial of a right routine is never the routine's fault, and never a pass."""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill import External, process_kill

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    import psutil

    from pytest_gracekill import Domain, Driver, Report
    from pytest_gracekill.child.handle import FakeQemu
    from pytest_gracekill.child.unstarted import Child
    from pytest_gracekill.fixtures import Judge, StartFake

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)

#: A process from outside that does it when the VM flushes: started before the trial, and told of
#: the VM by a file that its path is in.
OUTSIDE = """
until [ -s "$1" ]; do sleep 0.02; done
pid=$(cat "$1") folder=$(cat "$2")
until grep -q '"block"' "$folder/journal"; do sleep 0.02; done
{what}
"""


@contextmanager
def from_outside(what: str, folder: Path) -> Iterator[Callable[[int, Path], None]]:
    """Have this done by a process that is no part of the trial, when it is told of the VM."""
    pid, place = folder / "vm.pid", folder / "vm.folder"
    script = ["sh", "-c", OUTSIDE.replace("{what}", what), "sh", str(pid), str(place)]
    outside = subprocess.Popen(script, start_new_session=True)

    def tell(number: int, folder: Path) -> None:
        place.write_text(str(folder))
        pid.write_text(str(number))

    try:
        yield tell
    finally:
        os.killpg(outside.pid, signal.SIGKILL)
        outside.wait()


def broken(report: Report) -> list[str]:
    return [v.word for v in report.verdicts.values() if v.status == "broken"]


def gone(pid: int) -> None:
    """Wait for the end of a process that somebody else reaps."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], 30)[0]
    finally:
        os.close(fd)


# -- routines that are right, of each kind: those that wait as long as it takes


def by_pid(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    gone(pid)


def flushing(child: Child) -> subprocess.Popen[bytes]:
    """The VM, started and asked to stop, when its first block is on the disk."""
    vm = subprocess.Popen(child.argv)
    child.wait_ready()
    vm.terminate()
    while child.journal.last("block") is None:
        select.select([], [], [], 0.005)
    return vm


def by_popen(popen: subprocess.Popen[bytes]) -> bool:
    popen.terminate()
    return popen.wait(30) == 0


def by_process(process: psutil.Process) -> None:
    process.terminate()
    if process.wait(30) != 0:
        raise RuntimeError("it did not end in order")


def by_driver(driver: Driver, domain: Domain, flags: int) -> object:
    return process_kill(driver, domain, flags)


async def by_async(pid: int) -> None:
    fd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGTERM)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, ended.set)
    await ended.wait()
    loop.remove_reader(fd)
    os.close(fd)


ROUTINES: dict[str, Callable[..., object]] = {
    "pid": by_pid,
    "popen": by_popen,
    "process": by_process,
    "driver": by_driver,
    "async": by_async,
}
SIGNALS = {"KILL": "SIGKILL", "SEGV": "SIGSEGV"}


@pytest.mark.parametrize("name", list(SIGNALS))
@pytest.mark.parametrize("kind", list(ROUTINES))
def test_a_deadly_signal_from_outside(
    gracekill: Judge, fake_qemu: StartFake, tmp_path: Path, kind: str, name: str
) -> None:
    topology = "child" if kind in ("popen", "process") else "reaped"
    vm = fake_qemu(flush_time=3.0, topology=topology)
    with from_outside(f"kill -{name} $pid", tmp_path) as tell:
        tell(vm.pid, vm.dir)
        report = gracekill(ROUTINES[kind], vm=vm, survive=4.0)
    assert not broken(report), report
    assert {v.cause for v in report.verdicts.values() if v.status == "unknown"} == {"outside"}
    for verdict in ("data", "escalation"):
        assert report.verdicts[verdict].status == "unknown"
        assert SIGNALS[name] in report.verdicts[verdict].evidence
        assert "nobody saw it being sent" in report.verdicts[verdict].evidence
    assert not report.sigkill_sent


def managers(  # noqa: C901 - a function each
    tell: Callable[[int, Path], None],
) -> dict[str, Callable[..., object]]:
    """Managers that start nothing but the VM, and tell of it."""

    def generator(child: Child) -> Iterator[object]:
        vm = subprocess.Popen(child.argv)
        child.wait_ready()
        tell(vm.pid, child.image.parent)
        yield lambda: by_popen(vm)
        vm.wait()

    def call(child: Child) -> object:
        vm = subprocess.Popen(f"exec {child.cmdline}", shell=True)
        child.wait_ready()
        tell(vm.pid, child.image.parent)
        return by_popen(vm)

    async def coroutines(child: Child) -> AsyncIterator[object]:
        vm = await asyncio.create_subprocess_exec(child.program)
        child.wait_ready()
        tell(vm.pid, child.image.parent)

        async def stop() -> bool:
            vm.terminate()
            return await vm.wait() == 0

        yield stop

    def by_fork(child: Child) -> Iterator[object]:
        vm = os.fork()
        if vm == 0:
            try:
                child.target()
            finally:
                os._exit(1)
        child.wait_ready()
        tell(vm, child.image.parent)

        def stop() -> bool:
            os.kill(vm, signal.SIGTERM)
            return os.waitstatus_to_exitcode(os.waitpid(vm, 0)[1]) == 0

        yield stop

    def by_worker(child: Child) -> Iterator[object]:
        vm = multiprocessing.get_context("spawn").Process(target=child.target)
        vm.start()
        child.wait_ready()
        tell(child.pid, child.image.parent)

        def stop() -> bool:
            vm.terminate()
            vm.join()
            return vm.exitcode == 0

        yield stop
        vm.close()

    def by_posix_spawn(child: Child) -> Iterator[object]:
        # as Popen starts it where it can, from 3.13 on whenever it has a path
        vm = subprocess.Popen(child.argv, close_fds=False)
        child.wait_ready()
        tell(vm.pid, child.image.parent)
        yield lambda: by_popen(vm)

    return {
        "generator": generator,
        "one call": call,
        "coroutines": coroutines,
        "fork": by_fork,
        "worker": by_worker,
        "posix_spawn": by_posix_spawn,
    }


MANAGERS = ("generator", "one call", "coroutines", "fork", "worker", "posix_spawn")


@pytest.mark.parametrize("kind", MANAGERS)
def test_a_manager_whose_vm_is_killed_from_outside(
    gracekill: Judge, tmp_path: Path, kind: str
) -> None:
    with from_outside("kill -KILL $pid", tmp_path) as tell:
        report = gracekill(managers(tell)[kind], flush_time=3.0)
    assert not broken(report), report
    assert report.verdicts["data"].status == report.verdicts["escalation"].status == "unknown"
    assert "SIGKILL" in report.verdicts["escalation"].evidence


def test_a_wrapper_of_the_fake_is_no_process_of_the_manager(
    gracekill: Judge, tmp_path: Path
) -> None:
    def manager(child: Child) -> Iterator[object]:
        wrapper = subprocess.Popen(child.argv)
        child.wait_ready()
        tell(child.pid, child.image.parent)

        def stop() -> None:
            os.kill(child.pid, signal.SIGTERM)
            wrapper.wait()

        yield stop

    with from_outside("kill -KILL $pid", tmp_path) as tell:
        report = gracekill(manager, flush_time=3.0, topology="wrapped")
    assert not broken(report), report
    assert report.verdicts["data"].status == report.verdicts["escalation"].status == "unknown"
    assert "SIGKILL" in report.verdicts["escalation"].evidence


# -- and those whose doing it is, or may be


def kills_by_command(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    subprocess.run(["kill", "-KILL", str(pid)], check=True)
    gone(pid)


def kills_by_shell(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    os.system(f"kill -KILL {pid}")
    gone(pid)


def kills_by_spawn(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    os.waitpid(os.posix_spawnp("kill", ["kill", "-KILL", str(pid)], os.environ), 0)
    gone(pid)


def kills_by_worker(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    worker = multiprocessing.get_context("spawn").Process(target=os.kill, args=(pid, 9))
    worker.start()
    worker.join()
    gone(pid)


DOERS = {
    work.__name__: work
    for work in (kills_by_command, kills_by_shell, kills_by_spawn, kills_by_worker)
}


@pytest.mark.parametrize("name", list(DOERS))
def test_what_the_routine_has_started_is_the_routines(gracekill: Judge, name: str) -> None:
    report = gracekill(DOERS[name], flush_time=2.0)
    assert "DATA LOST" in broken(report), report
    assert "KILLED EARLY" in broken(report)


def test_a_process_that_c_code_has_started_is_seen_while_it_lives(gracekill: Judge) -> None:
    libc = ctypes.CDLL(None)
    libc.popen.restype = ctypes.c_void_p
    pipes: list[int] = []

    def stop(pid: int) -> None:
        os.kill(pid, signal.SIGTERM)
        pipes.append(libc.popen(f"kill -KILL {pid}; cat".encode(), b"w"))
        gone(pid)

    try:
        report = gracekill(stop, flush_time=2.0)
    finally:
        for pipe in pipes:
            libc.pclose(ctypes.c_void_p(pipe))
    assert "KILLED EARLY" in broken(report), report


def test_a_process_of_another_thread_of_the_routine_is_the_routines(gracekill: Judge) -> None:
    def stop(pid: int) -> None:
        killer = threading.Thread(target=kills_by_command, args=(pid,))
        killer.start()
        killer.join()

    assert "KILLED EARLY" in broken(gracekill(stop, flush_time=2.0))


def test_a_process_of_a_contender_is_not_the_routines(gracekill: Judge) -> None:
    def look() -> None:
        subprocess.run(["true"], check=True)

    def stop(pid: int) -> None:
        os.kill(pid, signal.SIGTERM)
        ctypes.CDLL(None).kill(pid, 9)  # that C code sends it is seen by nobody
        gone(pid)

    report = gracekill(stop, flush_time=2.0, contend=[look])
    assert not broken(report), report
    assert report.verdicts["data"].status == "unknown"


@pytest.mark.parametrize("form", ["exec", "shell", "worker"])
def test_a_manager_that_has_started_something_else(gracekill: Judge, form: str) -> None:
    def manager(child: Child) -> Iterator[object]:
        if form == "shell":
            command = f"{child.cmdline} & echo $!; wait"
            vm = subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, text=True)
        else:
            vm = subprocess.Popen(child.argv, stdout=subprocess.PIPE, text=True)
        child.wait_ready()
        if form == "exec":
            subprocess.run(["true"], check=True)

        def stop() -> None:
            os.kill(child.pid, signal.SIGTERM)
            if form == "worker":
                kills_by_worker(child.pid)
            else:
                ctypes.CDLL(None).kill(child.pid, 9)
            vm.wait()

        yield stop

    report = gracekill(manager, flush_time=2.0)
    assert "DATA LOST" in broken(report), report


def test_a_vm_that_dies_with_the_thread_that_forked_it(gracekill: Judge) -> None:
    def manager(child: Child) -> Iterator[object]:
        started, over, vms = threading.Event(), threading.Event(), []
        libc = ctypes.CDLL(None)

        def keep() -> None:
            # PR_SET_PDEATHSIG, SIGKILL
            vms.append(subprocess.Popen(child.argv, preexec_fn=lambda: libc.prctl(1, 9)))  # noqa: PLW1509
            started.set()
            over.wait()

        thread = threading.Thread(target=keep, name="forker")
        thread.start()
        started.wait()
        child.wait_ready()

        def stop() -> None:
            vms[0].terminate()
            while child.journal.last("block") is None:
                select.select([], [], [], 0.005)
            over.set()
            thread.join()
            vms[0].wait()

        yield stop

    report = gracekill(manager, flush_time=2.0)
    assert broken(report) == ["DATA LOST", "KILLED EARLY"], report
    assert "PR_SET_PDEATHSIG: thread forker" in report.verdicts["escalation"].evidence
    assert "grace" not in report.verdicts["escalation"].advice


# -- requests


def test_a_second_request_from_outside_aborts_the_flush(
    gracekill: Judge, fake_qemu: StartFake, tmp_path: Path
) -> None:
    vm = fake_qemu(flush_time=3.0, topology="reaped", on_second_term="abort")
    with from_outside("kill -TERM $pid", tmp_path) as tell:
        tell(vm.pid, vm.dir)
        report = gracekill(by_pid, vm=vm)
    assert not broken(report), report
    assert report.verdicts["data"].status == "unknown"
    assert "which is no process of the trial" in report.verdicts["data"].evidence


def test_a_second_request_of_the_routine_aborts_the_flush(gracekill: Judge) -> None:
    def stop(child: Child) -> None:
        vm = flushing(child)
        subprocess.run(["kill", str(vm.pid)], check=True)
        vm.wait()

    report = gracekill(stop, flush_time=3.0, on_second_term="abort")
    assert {"DATA LOST", "REPEATED"} <= {*broken(report)}, report


def test_only_somebody_else_has_requested_it(
    gracekill: Judge, fake_qemu: StartFake, tmp_path: Path
) -> None:
    vm = fake_qemu(flush_time=0.2, topology="reaped", guest="flushing")
    with from_outside("kill -TERM $pid", tmp_path) as tell:

        def waits(pid: int) -> None:
            tell(vm.pid, vm.dir)
            gone(pid)

        report = gracekill(waits, vm=vm)
    assert not broken(report), report
    assert report.verdicts["escalation"].status == "unknown"
    assert "the routine's own request never came" in report.verdicts["escalation"].evidence


# -- memory


@pytest.mark.parametrize("version", [1, 2])
def test_the_kernel_kills_for_memory(
    gracekill: Judge,
    fake_qemu: StartFake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: int,
) -> None:
    """A command of the routine could have done it, and the kernel says that it has."""
    from pytest_gracekill.witness import oom

    file = tmp_path / ("memory.oom_control" if version == 1 else "memory.events")
    file.write_text("under_oom 0\noom_kill 3\n" if version == 1 else "oom 7\noom_kill 3\n")
    monkeypatch.setattr(oom, "counter", lambda: file)
    vm = fake_qemu(flush_time=2.0, topology="reaped")

    def stop(pid: int) -> None:
        subprocess.run(["kill", str(pid)], check=True)
        file.write_text(file.read_text().replace("oom_kill 3", "oom_kill 4"))
        ctypes.CDLL(None).kill(pid, 9)
        gone(pid)

    report = gracekill(stop, vm=vm)
    assert not broken(report), report
    assert "oom_kill +1" in report.verdicts["data"].evidence
    assert report.verdicts["data"].cause == "machine"


# -- files, and processes of ours

OVERWRITE = 'tr "\\0" x </dev/zero | head -c 90000 | dd of="$folder/disk" conv=notrunc 2>/dev/null'
FILES = {
    "the disk is deleted": ('rm "$folder/disk"', "disk"),
    "the disk is truncated": (': >"$folder/disk"', "disk"),
    "the disk is overwritten": (OVERWRITE, "disk"),
    "the journal is deleted": ('rm "$folder/journal"', "journal"),
    "the journal is truncated": (': >"$folder/journal"', "journal"),
    "the journal is cut short": ('truncate -s 400 "$folder/journal"', "journal"),
    "all of it is deleted": ('rm -rf "$folder"', "journal"),
}


@pytest.mark.parametrize("what", list(FILES))
def test_a_file_of_the_vm_is_damaged(
    gracekill: Judge, fake_qemu: StartFake, tmp_path: Path, what: str
) -> None:
    script, cause = FILES[what]
    vm = fake_qemu(flush_time=1.5, topology="child")
    with from_outside(script, tmp_path) as tell:
        tell(vm.pid, vm.dir)
        report = gracekill(by_popen, vm=vm)
    assert not broken(report), report
    assert report.verdicts["data"].status == "unknown"
    assert report.verdicts["data"].cause == "outside"
    assert cause in report.verdicts["data"].evidence


def test_the_fake_cannot_write_any_more(gracekill: Judge, fake_qemu: StartFake) -> None:
    """As on a full file system: an exit status of ours that nobody has asked for."""
    vm = fake_qemu(flush_time=0.5, topology="child")
    resource.prlimit(vm.pid, resource.RLIMIT_FSIZE, (2048, 2048))
    report = gracekill(by_popen, vm=vm)  # it reports a failure, since the status is not 0
    assert not broken(report), report
    assert report.verdicts["data"].status == report.verdicts["outcome"].status == "unknown"
    assert "File too large" in report.verdicts["data"].evidence


def test_a_loss_beside_a_damage_is_told(gracekill: Judge) -> None:
    def stop(child: Child) -> None:
        vm = flushing(child)
        vm.kill()
        vm.wait()
        child.image.unlink()

    report = gracekill(stop, flush_time=3.0)
    assert broken(report) == ["DATA LOST", "KILLED EARLY"], report
    assert "0-63" not in report.verdicts["data"].summary  # those that were written are not told


def ours(vm: FakeQemu) -> int:
    pid = vm.infrastructure_pid
    assert pid is not None
    return pid


@pytest.mark.parametrize("topology", ["wrapped", "reaped", "zombie", "daemon"])
def test_a_process_of_ours_is_killed(
    gracekill: Judge, fake_qemu: StartFake, tmp_path: Path, topology: str
) -> None:
    vm = fake_qemu(flush_time=1.0, topology=topology)
    routine: Callable[..., object] = by_wrapper(vm) if topology == "wrapped" else by_pid
    with from_outside(f"kill -KILL {ours(vm)}", tmp_path) as tell:
        tell(vm.pid, vm.dir)
        report = gracekill(routine, vm=vm)
    assert not broken(report), report
    assert not report.ok
    assert f"(pid {ours(vm)}) was ended by SIGKILL" in str(report.verdicts["outcome"].evidence)


def by_wrapper(vm: FakeQemu) -> Callable[..., object]:
    """A routine that asks the VM itself, and believes that it is gone when its wrapper is."""

    def stop(popen: subprocess.Popen[bytes]) -> None:
        os.kill(vm.pid, signal.SIGTERM)
        popen.wait(30)

    return stop


def test_a_wrapper_that_the_routine_kills_is_the_routines(gracekill: Judge) -> None:
    def stop(popen: subprocess.Popen[bytes]) -> None:
        popen.kill()
        popen.wait()

    report = gracekill(stop, flush_time=0.5, topology="wrapped")
    assert "LEAKED" in broken(report), report


def test_a_wrapper_that_a_command_kills_is_the_routines(gracekill: Judge) -> None:
    external = External(stop="kill -KILL {pid}")
    assert "LEAKED" in broken(gracekill(external, flush_time=0.5, topology="wrapped"))


# -- dead before the call


def test_dead_before_the_call_by_somebody_else(gracekill: Judge, fake_qemu: StartFake) -> None:
    vm = fake_qemu()
    subprocess.run(["kill", "-KILL", str(vm.pid)], check=True)
    gone(vm.pid)
    report = gracekill(lambda pid: None, vm=vm)  # noqa: ARG005 - it does nothing
    assert not broken(report), report
    assert report.verdicts["outcome"].status == "unknown"
    assert "dead before the call" in report.verdicts["outcome"].evidence


def test_dead_before_the_call_by_the_test(gracekill: Judge, fake_qemu: StartFake) -> None:
    vm = fake_qemu()
    os.kill(vm.pid, signal.SIGKILL)
    vm.wait(30)
    gracekill(lambda pid: None, vm=vm).check()  # noqa: ARG005 - as above


@pytest.mark.parametrize("how", ["command", "signal", "request", "nobody"])
def test_dead_before_the_stop_of_a_manager(gracekill: Judge, how: str) -> None:
    def manager(child: Child) -> Iterator[object]:
        vm = subprocess.Popen(child.argv)
        child.wait_ready()
        if how == "command":
            subprocess.run(["kill", "-KILL", str(vm.pid)], check=True)
        elif how == "signal":
            vm.kill()
        elif how == "request":
            ctypes.CDLL(None).kill(vm.pid, 15)
        else:
            ctypes.CDLL(None).kill(vm.pid, 9)
        gone(vm.pid)
        yield vm.wait

    outcome = gracekill(manager, flush_time=0.1, succeeded=lambda _: True).verdicts["outcome"]
    assert outcome.status == ("unknown" if how == "nobody" else "ok"), outcome
