"""A routine judged on a real QEMU: it loses what it must, exactly, and nothing where it must not.

What was lost is read back by qemu-io. Beside it stands the journal, which has what the disk was
asked to write: two ways that know nothing of each other.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import psutil
import pytest

from pytest_gracekill import (
    LIBVIRT_0_9_10,
    Domain,
    Driver,
    External,
    KillFlags,
    KillPolicy,
    KillResult,
    RealQemu,
    Report,
    StartError,
    UsageError,
    process_kill,
)

if TYPE_CHECKING:
    from pytest_gracekill.fixtures import Judge, StartReal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a real QEMU needs pidfds")

WITHIN = 30.0
PROGRAMS = ["qemu", "storage-daemon"]
# no clock matters to it: behind the gate nothing moves
AT_ONCE = KillPolicy(grace=0.05)


def durable(vm: RealQemu) -> list[int]:
    """The blocks whose tables the disk has been asked to write, and has written."""
    return sorted(entry.number("index") for entry in vm.journal.entries() if entry.event == "block")


def blocks(*, but: list[int]) -> list[int]:
    return [block for block in range(64) if block not in but]


def test_the_grace_of_2011_loses_what_was_acknowledged(
    gracekill: Judge, real_qemu: StartReal
) -> None:
    vm = real_qemu(flush_time=2.4)
    report = gracekill(vm=vm, policy=KillPolicy(grace=1.6), flags=KillFlags.FORCE)
    lost = report.disk.lost
    assert lost, str(report)
    # on a machine that lets QEMU stand still it may be all
    assert lost == blocks(but=durable(vm)) == list(range(lost[0], 64))
    assert report.verdicts["data"].word == "DATA LOST"
    assert report.verdicts["escalation"].word == "KILLED EARLY"
    report.check("outcome", "deadlock", "identity", "leftovers")
    assert not report.not_judged
    text = str(report)
    assert f"gracekill: DATA LOST ({len(lost)} of 64 blocks: {lost[0]}-63), KILLED EARLY" in text
    last = f"last durable: {lost[0] - 1} at t+" if durable(vm) else "nothing was flushed"
    assert f"blocks {lost[0]}-63 acknowledged, never on disk; {last}" in text
    assert "the flush needed 2.40 s, the grace was 1." in " ".join(text.split())
    with pytest.raises(AssertionError, match="DATA LOST"):
        report.check()


def test_libvirt_before_the_seed_loses_too(gracekill: Judge, real_qemu: StartReal) -> None:
    report = gracekill(
        vm=real_qemu(flush_time=4.0), policy=LIBVIRT_0_9_10, flags=KillFlags.FORCE, contenders=2
    )
    assert report.verdicts["data"].word == "DATA LOST"
    assert report.verdicts["progress"].word == "STALLED"


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_grace_of_2012_is_right(gracekill: Judge, real_qemu: StartReal, program: str) -> None:
    vm = real_qemu(flush_time=0.6, program=program)
    report = gracekill(vm=vm, flags=KillFlags.FORCE)
    report.check()
    assert not report.not_judged
    assert report.disk.acknowledged == list(range(64)) == durable(vm)
    assert vm.exit is not None
    assert (vm.exit.code, vm.exit.signal) == (0, None)
    assert not report.disk.dirty


@pytest.mark.parametrize("lazy_refcounts", [False, True], ids=["", "lazy"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_behind_the_gate_sigkill_loses_all(
    gracekill: Judge, real_qemu: StartReal, program: str, *, lazy_refcounts: bool
) -> None:
    vm = real_qemu(gate="held", program=program, lazy_refcounts=lazy_refcounts)
    report = gracekill(vm=vm, policy=AT_ONCE, flags=KillFlags.FORCE)
    assert report.disk.acknowledged == report.disk.lost == list(range(64))
    assert report.disk.dirty is lazy_refcounts
    assert "blocks 0-63 acknowledged, never on disk; nothing was flushed" in str(report)
    assert vm.exit is not None
    assert vm.exit.signal == signal.SIGKILL


@pytest.mark.parametrize("lazy_refcounts", [False, True], ids=["", "lazy"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_when_the_gate_is_opened_nothing_is_lost(
    gracekill: Judge, real_qemu: StartReal, program: str, *, lazy_refcounts: bool
) -> None:
    vm = real_qemu(gate="held", program=program, lazy_refcounts=lazy_refcounts)

    def stop(pid: int) -> None:
        os.kill(pid, signal.SIGTERM)
        assert vm.gate.seen.wait(WITHIN)
        assert vm.disk.audit().lost == list(range(64))
        assert vm.alive
        vm.gate.open()
        vm.wait(WITHIN)

    report = gracekill(stop, vm=vm)
    report.check()
    assert report.disk.acknowledged == durable(vm) == list(range(64))


def test_a_gate_that_lets_some_through_loses_the_others(
    gracekill: Judge, real_qemu: StartReal
) -> None:
    vm = real_qemu(gate="held")

    def stop(pid: int) -> None:
        os.kill(pid, signal.SIGTERM)
        assert vm.gate.seen.wait(WITHIN)
        vm.gate.let(20)
        assert vm.gate.seen.wait(WITHIN)
        os.kill(pid, signal.SIGKILL)
        vm.wait(WITHIN)

    report = gracekill(stop, vm=vm, force=True)
    # the first requests are flushes, and the table of reference counts
    assert report.disk.lost == blocks(but=durable(vm)) == list(range(17, 64))
    assert report.verdicts["data"].word == "DATA LOST"


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_the_guest_has_flushed_survives_sigkill(
    gracekill: Judge, real_qemu: StartReal, program: str
) -> None:
    report = gracekill(
        vm=real_qemu(gate="held", flushed=16, program=program),
        policy=AT_ONCE,
        flags=KillFlags.FORCE,
    )
    assert report.disk.acknowledged == list(range(64))
    assert report.disk.lost == list(range(16, 64))


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_guest_that_has_flushed_everything_loses_nothing(
    gracekill: Judge, real_qemu: StartReal, program: str
) -> None:
    vm = real_qemu(gate="held", flushed=64, program=program)
    report = gracekill(vm=vm, policy=AT_ONCE, flags=KillFlags.FORCE)
    report.check("data")
    assert vm.exit is not None
    assert vm.exit.signal == signal.SIGKILL


def test_qemu_img_check_finds_no_error_where_all_is_lost(real_qemu: StartReal) -> None:
    vm = real_qemu(gate="held")
    vm.kill()
    found = vm.disk.check()
    assert found["check-errors"] == 0
    assert not {"corruptions", "leaks"} & set(found), found
    assert vm.disk.audit().lost == list(range(64))


def test_qemu_img_check_finds_errors_where_nothing_is_lost(real_qemu: StartReal) -> None:
    vm = real_qemu(gate="held", flushed=64, lazy_refcounts=True)
    vm.kill()
    assert vm.disk.check()["corruptions"]
    assert vm.disk.audit().ok


@pytest.mark.parametrize("number", [1, 2, 200])
def test_any_number_of_blocks(gracekill: Judge, real_qemu: StartReal, number: int) -> None:
    vm = real_qemu(flush_time=0.1, blocks=number)
    report = gracekill(vm=vm, flags=KillFlags.FORCE)
    report.check("data")
    assert report.disk.acknowledged == durable(vm) == list(range(number))


# -- routines of every kind


def by_pid(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        os.set_blocking(pidfd, True)
        _ended(pidfd)
    finally:
        os.close(pidfd)


def _ended(pidfd: int) -> None:
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(WITHIN * 1000)


def by_popen(popen: subprocess.Popen[bytes]) -> None:
    popen.terminate()
    assert popen.wait(WITHIN) == 0


def by_process(process: psutil.Process) -> None:
    process.terminate()
    process.wait(WITHIN)


def by_driver(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    return process_kill(driver, domain, flags)


async def by_loop(pid: int) -> None:
    import asyncio

    await asyncio.to_thread(by_pid, pid)


SHELL = External(stop="sh -c 'kill {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.01; done'")
ROUTINES: dict[str, object] = {
    "pid": by_pid,
    "popen": by_popen,
    "process": by_process,
    "driver": by_driver,
    "async": by_loop,
    "external": SHELL,
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("kind", ROUTINES)
def test_routines_of_every_kind(
    gracekill: Judge, real_qemu: StartReal, kind: str, program: str
) -> None:
    topology = "child" if kind in ("popen", "process") else "reaped"
    vm = real_qemu(flush_time=0.3, topology=topology, program=program)
    routine = cast("Callable[..., object]", ROUTINES[kind])
    report = gracekill(routine, vm=vm, contenders=2)
    report.check("data", "escalation", "outcome", "promptness", "leftovers")
    assert report.disk.acknowledged == list(range(64))
    assert vm.exit is not None
    assert vm.exit.code in (0, None)  # None: somebody else has eaten it


@pytest.mark.parametrize("topology", ["reaped", "zombie", "daemon"])
def test_topologies_in_which_somebody_else_reaps(
    gracekill: Judge, real_qemu: StartReal, topology: str
) -> None:
    vm = real_qemu(flush_time=0.2, topology=topology, reaper_delay=0.2)
    report = gracekill(by_pid, vm=vm)
    report.check()
    assert vm.popen is None
    assert vm.exit is not None
    assert vm.exit.code == 0


def test_a_wrapper_that_forwards_nothing_leaves_qemu_alive(
    gracekill: Judge, real_qemu: StartReal
) -> None:
    def stop(popen: subprocess.Popen[bytes]) -> None:
        popen.terminate()
        popen.wait(WITHIN)

    report = gracekill(stop, vm=real_qemu(flush_time=0.1, topology="wrapped"))
    assert report.verdicts["outcome"].word == "LEAKED"
    assert "data" in report.not_judged


def test_a_routine_gets_qemu_and_no_program_of_ours(real_qemu: StartReal) -> None:
    vm = real_qemu()
    assert vm.pid != vm.started_pid or vm.popen is None
    assert psutil.Process(vm.pid).name().startswith("qemu-system-x86")
    assert "-machine" in psutil.Process(vm.pid).cmdline()
    assert vm.version.count(".") == 2
    assert repr(vm) == f"<RealQemu pid {vm.pid}, reaped, alive>"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_the_journal_has_the_request_with_its_sender(real_qemu: StartReal, name: str) -> None:
    vm = real_qemu(flush_time=0.1)
    os.kill(vm.pid, signal.Signals[name])
    vm.wait(WITHIN)
    entries = {entry.event: entry for entry in vm.journal.entries()}
    assert entries["signal"].number("signal") == signal.Signals[name]
    assert entries["signal"].number("pid") == os.getpid()
    assert entries["event"].fields == {"name": "SHUTDOWN", "reason": "host-signal"}
    assert entries["ready"].at_ns < entries["signal"].at_ns < entries["exit"].at_ns
    assert f"terminating on signal {int(signal.Signals[name])} from pid {os.getpid()}" in vm.stderr


def test_quit_by_qmp_is_a_request_too(gracekill: Judge, real_qemu: StartReal) -> None:
    def stop(pid: int) -> None:
        import json
        import socket

        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(WITHIN)
            sock.connect(str(vm.qmp))
            with sock.makefile("rw") as stream:
                stream.readline()
                for command in ("qmp_capabilities", "quit"):
                    stream.write(json.dumps({"execute": command}) + "\n")
                    stream.flush()
                while stream.readline():
                    pass
        vm.wait(WITHIN)

    vm = real_qemu(flush_time=0.3, qmp=True)
    report = gracekill(stop, vm=vm)
    report.check()
    assert "QMP quit t+" in report.verdicts["escalation"].evidence


def test_a_stopped_qemu_is_killed_by_its_close(real_qemu: StartReal) -> None:
    vm = real_qemu(gate="held")
    os.kill(vm.pid, signal.SIGSTOP)
    vm.close()
    vm.close()
    assert vm.exit is not None
    assert vm.exit.signal == signal.SIGKILL


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # since 3.12, beside threads
def test_a_forked_child_of_ours_can_do_nothing_to_it(real_qemu: StartReal) -> None:
    vm = real_qemu(flush_time=0.1)
    child = os.fork()
    if child == 0:
        vm.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert vm.alive
    os.kill(vm.pid, signal.SIGTERM)
    vm.wait(WITHIN)
    assert "signal" in {entry.event for entry in vm.journal.entries()}, "the monitor was hung up"
    assert vm.disk.audit().ok


@pytest.mark.parametrize("topology", ["child", "reaped", "wrapped", "daemon"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_nothing_is_left_of_one_in_this_process(
    real_qemu: StartReal, topology: str, program: str
) -> None:
    def there() -> tuple[int, list[str]]:
        names = [thread.name for thread in threading.enumerate()]
        return len(list(Path("/proc/self/fd").iterdir())), [
            n for n in names if n.startswith("gracekill:")
        ]

    before = there()
    vm = real_qemu(topology=topology, program=program)
    pidfd = os.pidfd_open(vm.pid)
    vm.close()
    _ended(pidfd)
    os.close(pidfd)
    vm.gate.open()
    assert there() == before
    assert vm.processes() == []
    left = {path.name for path in vm.dir.iterdir() if not path.is_file()}
    assert left == set(), "sockets or FIFOs are left"


# -- what cannot be


def test_a_qemu_that_does_not_start_is_told_with_its_own_words(
    real_qemu: StartReal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "qemu-system-x86_64"
    program.write_text("#!/bin/sh\necho no such machine >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(StartError, match="did not become ready") as raised:
        real_qemu()
    assert "no such machine" in str(raised.value)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_an_image_that_cannot_be_read_is_no_verdict(gracekill: Judge, real_qemu: StartReal) -> None:
    vm = real_qemu(flush_time=0.1)

    def stop(pid: int) -> None:
        by_pid(pid)
        (vm.dir / "disk").write_bytes(b"nothing of an image")

    report = gracekill(stop, vm=vm)
    assert report.verdicts["data"].status == "unknown"
    assert "0 of 64 blocks could be read" in report.verdicts["data"].evidence


@pytest.mark.parametrize("program", PROGRAMS)
def test_one_that_is_killed_from_outside_is_no_verdict(
    gracekill: Judge, real_qemu: StartReal, program: str
) -> None:
    vm = real_qemu(flush_time=5.0, program=program)
    script = 'until grep -q \'"block"\' "$1"; do sleep 0.02; done; kill -KILL $2'
    outside = subprocess.Popen(["sh", "-c", script, "sh", str(vm.journal.path), str(vm.pid)])
    try:
        report = gracekill(by_pid, vm=vm)
    finally:
        outside.kill()
        outside.wait()
    assert not [v for v in report.verdicts.values() if v.status == "broken"], report
    for name in ("data", "escalation"):
        assert report.verdicts[name].status == "unknown"
        assert "SIGKILL" in report.verdicts[name].evidence


def test_a_block_that_holds_something_else_is_no_loss(
    gracekill: Judge, real_qemu: StartReal
) -> None:
    vm = real_qemu(flush_time=0.1)

    def stop(pid: int) -> None:
        by_pid(pid)
        write = ["qemu-io", "-f", "qcow2", "-c", f"write -q -P 0x77 {3 * (2 << 20) + 4096} 4k"]
        subprocess.run([*write, str(vm.dir / "disk")], check=True)

    report = gracekill(stop, vm=vm)
    assert report.verdicts["data"].word == "TORN"
    assert report.disk.torn == [3]
    assert report.disk.lost == []


def test_knobs_of_the_fake_that_qemu_has_not_are_refused(real_qemu: StartReal) -> None:
    with pytest.raises(UsageError, match="unknown argument 'on_term'"):
        real_qemu(on_term="ignore")


def words(report: Report) -> dict[str, str]:
    """What does not depend on how busy the machine is."""
    names = ("data", "escalation", "outcome", "deadlock", "identity", "leftovers")
    return {name: report.verdicts[name].word for name in names}


def test_fake_and_real_are_judged_alike(gracekill: Judge, real_qemu: StartReal) -> None:
    policy = KillPolicy(grace=0.2)
    real = gracekill(vm=real_qemu(flush_time=0.6), policy=policy, flags=KillFlags.FORCE)
    fake = gracekill(flush_time=0.6, policy=policy, flags=KillFlags.FORCE)
    assert words(real) == words(fake), f"{real}\n{fake}"
    assert words(real)["data"] == "DATA LOST"
    assert set(real.verdicts) == set(fake.verdicts)
