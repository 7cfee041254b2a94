"""The simulated VM is the fake as far as time and signals go, and is reached as a process is."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from pytest_gracekill import Crash, Stall
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.child.program import flushing
from pytest_gracekill.errors import UsageError
from pytest_gracekill.explore.objects import SimulatedPopen
from pytest_gracekill.explore.points import Following
from pytest_gracekill.explore.run import START_NS, Run
from pytest_gracekill.explore.simulating import on_one_core, simulated, without_garbage
from pytest_gracekill.explore.vm import SimulatedVm
from pytest_gracekill.explore.workers import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.fixtures import Judge

TERM, KILL = signal.SIGTERM, signal.SIGKILL


@contextmanager
def engine() -> Iterator[Pool]:
    with ExitStack() as stack:
        stack.enter_context(without_garbage())
        stack.enter_context(on_one_core())
        stack.enter_context(simulated())
        pool = Pool()
        stack.callback(pool.close, 30.0)
        yield pool


def with_vm(body: Callable[[SimulatedVm], object], **knobs: Any) -> tuple[Any, SimulatedVm, Run]:
    """What a body returns that has a VM to itself, the VM, and the schedule."""
    with engine() as pool:
        run = Run(pool, Following({}), clock="jump", recorded=True)
        made: list[SimulatedVm] = []

        def prepare() -> None:
            made.append(SimulatedVm(run, Knobs(**knobs), "the VM"))
            run.target = made[0]
            run.add("body", lambda: body(made[0]))

        run.alone(prepare)
        run.go()
    task = run.tasks[0]
    if task.error is not None:
        raise task.error
    assert run.outcome == "ended", run.standing
    return task.result, made[0], run


def said(call: Callable[..., object], *arguments: object, **named: object) -> object:
    """What a call returns, or raises: the errno of what the system says."""
    try:
        return call(*arguments, **named)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except (psutil.Error, subprocess.TimeoutExpired) as error:
        return type(error).__name__


def seconds() -> float:
    return time.monotonic() - START_NS / 1e9


def ended(vm: SimulatedVm) -> float:
    """When it has ended, as a pidfd tells."""
    fd = os.pidfd_open(vm.pid)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(None) == [(fd, select.POLLIN)]
    os.close(fd)
    return seconds()


# -- what becomes of it, and when


def asked(vm: SimulatedVm) -> float:
    os.kill(vm.pid, TERM)
    return ended(vm)


@pytest.mark.parametrize(
    ("knobs", "at", "status", "lost"),
    [
        ({}, 1.0, 0, 0),
        ({"flush_time": 3.5, "exit_status": 2}, 3.5, 2, 0),
        ({"linger": 0.5}, 1.5, 0, 0),
        ({"flush_profile": "slowing"}, 1.0, 0, 0),
        ({"flush_profile": Stall(at=3, seconds=2.0)}, 3.0, 0, 0),
        ({"on_term": "default"}, 0.0, -TERM, 64),
        ({"on_term": "exit", "exit_status": 3}, 0.0, 3, 64),
        ({"on_term": Crash(at=16, exit=7)}, 0.25, 7, 48),
        ({"on_term": Crash(at=32, signal=signal.SIGSEGV)}, 0.5, -signal.SIGSEGV, 32),
        ({"ready_after": 1.0}, 0.0, -TERM, 64),
    ],
)
def test_a_stop_request(knobs: dict[str, Any], at: float, status: int, lost: int) -> None:
    def body(vm: SimulatedVm) -> object:
        popen = SimulatedPopen(vm)
        assert popen.poll() is None
        popen.terminate()
        return popen.wait(10), seconds()

    found, vm, _ = with_vm(body, **knobs)
    assert found == (status, pytest.approx(at))
    assert len(vm.audit().lost) == lost


@pytest.mark.parametrize(
    "knobs", [{"on_term": "ignore"}, {"on_term": "refuse"}, {"flush_profile": "never"}], ids=str
)
def test_one_that_does_not_end(knobs: dict[str, Any]) -> None:
    def body(vm: SimulatedVm) -> object:
        popen = SimulatedPopen(vm)
        popen.terminate()
        before = said(popen.wait, timeout=10), popen.poll(), seconds()
        popen.kill()
        return before, popen.wait(), seconds()

    found, vm, _ = with_vm(body, **knobs)
    assert found == (("TimeoutExpired", None, 10.0), -KILL, 10.0)
    assert len(vm.audit().lost) == vm.knobs.blocks


@pytest.mark.parametrize(
    ("second", "at", "status", "lost"),
    [("ignore", 1.0, 0, 0), ("restart", 1.5, 0, 0), ("abort", 0.5, 1, 32)],
)
def test_a_second_stop_request(second: str, at: float, status: int, lost: int) -> None:
    def body(vm: SimulatedVm) -> object:
        popen = SimulatedPopen(vm)
        popen.terminate()
        time.sleep(0.5)
        popen.send_signal(signal.SIGINT)
        return popen.wait(), seconds()

    found, vm, _ = with_vm(body, on_second_term=second)
    assert found == (status, pytest.approx(at))
    assert len(vm.audit().lost) == lost


def test_what_survives_a_sigkill_flushes_no_more() -> None:
    def body(vm: SimulatedVm) -> object:
        os.kill(vm.pid, TERM)
        time.sleep(0.25)
        os.kill(vm.pid, KILL)
        return ended(vm)

    found, vm, _ = with_vm(body, survives_kill=2.0)
    assert found == 2.25
    assert len(vm.audit().lost) == 48
    assert vm.exit() is not None
    assert (vm.status, vm.killed_by) == (-KILL, KILL)


def test_ready_it_takes_note_of_a_request() -> None:
    def body(vm: SimulatedVm) -> float:
        time.sleep(1)
        return asked(vm)

    found, vm, _ = with_vm(body, ready_after=1.0)
    assert found == 2.0
    assert vm.audit().lost == []


class _Machine:
    """What the fake's own flush asks of its machine, with a clock that only it moves."""

    def __init__(self, knobs: Knobs, until: float) -> None:
        profile, on_term = knobs.flush_profile, knobs.on_term
        self.configuration = self
        self.flush_profile = "stall" if isinstance(profile, Stall) else profile
        self.stall_at = profile.at if isinstance(profile, Stall) else -1
        self.stall_seconds = profile.seconds if isinstance(profile, Stall) else 0.0
        self.on_term, self.on_term_at = "flush", -1
        assert on_term == "flush"
        self.flush_time, self.torn = knobs.flush_time, knobs.torn
        self.seed, self.block_size = knobs.seed, knobs.block_size
        self.dirty = range(knobs.blocks)
        self.generations = [1] * knobs.blocks
        self.disk = -1
        self.record = self
        self.now, self.until = 0.0, until
        self.written: list[int] = []

    def write(self, event: str, **fields: Any) -> None:
        if event == "block":
            self.written.append(fields["index"])

    def rest(self, until: float) -> None:
        # a microsecond for what integers make of it
        if until > self.until + 1e-6:
            raise EOFError
        self.now = max(self.now, until)


PROFILES = ("constant", "slowing", "never", Stall(at=5, seconds=0.4), Stall(at=9, seconds=0.4))


@pytest.mark.parametrize("profile", PROFILES, ids=str)
@pytest.mark.parametrize("killed_at", [0.0, 0.1, 0.3, 0.55, 0.8, 1.2, 1.5])
def test_a_block_is_lost_exactly_where_the_fake_loses_it(
    profile: Any, killed_at: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    knobs = {"flush_profile": profile, "blocks": 10, "flush_time": 1.0}

    def body(vm: SimulatedVm) -> None:
        os.kill(vm.pid, TERM)
        time.sleep(killed_at)
        os.kill(vm.pid, KILL)

    _, vm, _ = with_vm(body, **knobs)
    machine = _Machine(Knobs(**knobs), killed_at)
    monkeypatch.setattr(flushing, "monotonic", lambda: machine.now)
    monkeypatch.setattr(flushing, "_write", lambda *_: None)
    try:
        flushing.flush(machine, "exit")  # type: ignore[arg-type]
    except EOFError:
        pass
    on_disk = [block for block in range(10) if block not in vm.audit().lost]
    assert on_disk == machine.written


# -- how it is reached


def test_a_child_stays_until_it_is_reaped() -> None:
    def body(vm: SimulatedVm) -> list[object]:
        found: list[object] = [os.waitpid(vm.pid, os.WNOHANG), asked(vm)]
        found += [said(os.kill, vm.pid, 0), said(os.kill, vm.pid, TERM), os.waitpid(vm.pid, 0)]
        return [*found, said(os.kill, vm.pid, 0), said(os.waitpid, vm.pid, 0)]

    found, vm, _ = with_vm(body, exit_status=3)
    assert found == [(0, 0), 1.0, None, None, (vm.pid, 3 << 8), "ESRCH", "ECHILD"]


def test_a_killed_child_has_a_status_of_its_own() -> None:
    def body(vm: SimulatedVm) -> list[object]:
        os.kill(vm.pid, KILL)
        result = os.waitid(os.P_PID, vm.pid, os.WEXITED)
        assert result is not None
        return [result.si_pid, result.si_status, result.si_code]

    assert with_vm(body)[0][1:] == [KILL, os.CLD_KILLED]
    assert os.waitstatus_to_exitcode(with_vm(_kill_and_wait)[0][1]) == -KILL


def _kill_and_wait(vm: SimulatedVm) -> tuple[int, int]:
    os.kill(vm.pid, KILL)
    return os.waitpid(vm.pid, 0)


def test_somebody_elses_child_is_gone_at_once_or_after_its_reaper() -> None:
    def body(vm: SimulatedVm) -> list[object]:
        found: list[object] = [said(os.waitpid, vm.pid, 0), asked(vm)]
        found.append(said(os.kill, vm.pid, 0))
        time.sleep(2)
        return [*found, said(os.kill, vm.pid, 0), said(os.kill, vm.pid, KILL)]

    assert with_vm(body, topology="reaped")[0] == ["ECHILD", 1.0, "ESRCH", "ESRCH", "ESRCH"]
    found = with_vm(body, topology="zombie", reaper_delay=1.5)[0]
    assert found == ["ECHILD", 1.0, None, "ESRCH", "ESRCH"]


def test_whoever_has_the_pid_afterwards_is_not_hit() -> None:
    def body(vm: SimulatedVm) -> list[object]:
        fd = os.pidfd_open(vm.pid)
        asked(vm)
        return [
            said(os.kill, vm.pid, 0),
            said(os.kill, vm.pid, KILL),
            said(signal.pidfd_send_signal, fd, KILL),
        ]

    found, _, run = with_vm(body, topology="reaped", reuse_pid=True)
    assert found == [None, "EPERM", "ESRCH"]
    assert [(sent.signum, sent.refused, sent.errno) for sent in run.signals] == [
        (TERM, False, None),
        (KILL, True, errno.EPERM),
        (KILL, False, errno.ESRCH),
    ]


def test_a_pidfd_means_the_vm_also_where_its_end_comes_in_between(gracekill: Judge) -> None:
    def stop(pid: int) -> bool:
        fd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(fd, TERM)
            time.sleep(1.0)
            signal.pidfd_send_signal(fd, KILL)
        except ProcessLookupError:
            return True
        finally:
            os.close(fd)
        return True

    knobs: dict[str, Any] = {"flush_time": 1.0, "topology": "reaped", "reuse_pid": True}
    found = gracekill.explore(stop, clock="explore", all_failures=True, **knobs)
    words = {v.word for failure in found.failures for v in failure.report.verdicts.values()}
    assert "STRANGER" not in words
    assert "RAISED" not in words


@pytest.mark.parametrize("pid", [0, -1, 1, -123_456])
def test_nobody_else_is_signalled(pid: int) -> None:
    def body(vm: SimulatedVm) -> list[object]:
        return [said(os.kill, pid, TERM), said(os.killpg, 77, TERM)]

    found, _, run = with_vm(body)
    assert found == ["EPERM", "EPERM"]
    assert [sent.refused for sent in run.signals] == [True, True]


def test_pidfds() -> None:
    def body(vm: SimulatedVm) -> list[object]:
        fd, other = os.pidfd_open(vm.pid), os.pidfd_open(vm.pid)
        poll = select.poll()
        poll.register(fd)
        found: list[object] = [fd != other, poll.poll(0), poll.poll(250), seconds()]
        found.append(select.select([other], [], [], 0.25))
        signal.pidfd_send_signal(fd, TERM)
        found += [select.select([other], [], [], 9) == ([other], [], []), seconds()]
        found.append(poll.poll(0) == [(fd, select.POLLIN)])
        poll.unregister(fd)
        os.close(fd)
        result = os.waitid(os.P_PIDFD, other, os.WEXITED)
        assert result is not None
        return [*found, result.si_code, said(signal.pidfd_send_signal, fd, 0)]

    found = with_vm(body)[0]
    assert found == [True, [], [], 0.25, ([], [], []), True, 1.5, True, os.CLD_EXITED, "EBADF"]


def test_psutil() -> None:
    def body(vm: SimulatedVm) -> list[object]:
        process = psutil.Process(vm.pid)
        found: list[object] = [process.is_running(), process.status()]
        found.append(psutil.pid_exists(vm.pid))
        found += [said(process.wait, 0.5), said(process.terminate), said(process.wait, 0.25)]
        found += [process.wait(3), seconds(), process.is_running(), psutil.pid_exists(vm.pid)]
        return [*found, said(process.kill), said(psutil.Process, vm.pid)]

    expired, gone = "TimeoutExpired", "NoSuchProcess"
    found = with_vm(body)[0]
    assert found[:6] == [True, psutil.STATUS_SLEEPING, True, expired, None, expired]
    assert found[6:] == [0, 1.5, False, False, gone, gone]


def test_psutil_sees_a_zombie() -> None:
    def body(vm: SimulatedVm) -> list[object]:
        process = psutil.Process(vm.pid)
        process.kill()
        found: list[object] = [process.status(), process.is_running()]
        return [*found, process.wait(), seconds(), process.is_running()]

    found = with_vm(body, topology="zombie", reaper_delay=2.0)[0]
    assert found == [psutil.STATUS_ZOMBIE, True, None, 2.0, False]


def test_popen() -> None:
    def body(vm: SimulatedVm) -> list[object]:
        popen = SimulatedPopen(vm)
        assert isinstance(popen, subprocess.Popen)
        with popen:
            found: list[object] = [popen.poll(), said(popen.wait, timeout=0.5), popen.returncode]
            popen.send_signal(TERM)
        found += [popen.returncode, seconds(), popen.poll(), popen.communicate()]
        popen.kill()  # it is known to have ended
        return found

    found, _, run = with_vm(body)
    assert found == [None, "TimeoutExpired", None, 0, 1.5, 0, (None, None)]
    assert [sent.signum for sent in run.signals] == [TERM]


def test_each_call_is_one_step() -> None:
    def body(vm: SimulatedVm) -> None:
        fd = os.pidfd_open(vm.pid)
        poll = select.poll()
        poll.register(fd)
        poll.poll(100)
        select.select([fd], [], [], 0)
        os.kill(vm.pid, 0)
        signal.pidfd_send_signal(fd, TERM)
        os.waitpid(vm.pid, os.WNOHANG)
        process = psutil.Process(vm.pid)
        process.is_running()
        process.wait()
        said(os.kill, vm.pid, KILL)

    _, _, run = with_vm(body)
    vm = "the VM"
    assert [step.text for step in run.steps] == [
        "begins",
        f"opens {vm}",
        f"waits for the exit of {vm}",
        f"waits for the exit of {vm}",
        f"sends signal 0 to {vm}",
        f"sends SIGTERM to {vm}",
        f"reaps {vm}",
        f"looks at {vm}",
        f"looks at {vm}",
        f"waits for {vm}",
        f"sends SIGKILL to {vm}",
    ]


@pytest.mark.parametrize(
    "use",
    [
        lambda _: os.fork(),
        lambda _: select.epoll(),
        lambda _: select.select([0], [], [], 0),
        lambda vm: os.kill(vm.pid, signal.SIGSTOP),
        lambda vm: psutil.Process(vm.pid).memory_info(),
    ],
)
def test_what_is_not_simulated_says_so(use: Callable[[SimulatedVm], object]) -> None:
    with pytest.raises(UsageError, match="not simulated"):
        with_vm(use)
