"""process_kill: what it sends, how it waits, what it reports, and what it leaves of the locks."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from pytest_gracekill import clock
from pytest_gracekill.errors import UsageError
from pytest_gracekill.routine import target as target_module
from pytest_gracekill.routine.flags import KillFlags
from pytest_gracekill.routine.model import Domain, Driver
from pytest_gracekill.routine.owned_lock import OwnedLock
from pytest_gracekill.routine.policy import (
    DROPS,
    LIBVIRT_0_9_10,
    LIBVIRT_0_9_11,
    WAITS,
    Drop,
    KillPolicy,
    Wait,
)
from pytest_gracekill.routine.process_kill import process_kill
from pytest_gracekill.routine.target import PidfdTarget, PsutilTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.routine.result import KillResult

DEADLINE = 30.0
FORCE, NOWAIT = KillFlags.FORCE, KillFlags.NOWAIT

#: Takes note of each SIGTERM on stdout, ends when its stdin does.
VM_PROGRAM = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"T"))
os.write(1, b"R")
while os.read(0, 1):
    pass
"""


class Vm:
    """A process that counts its SIGTERMs and ends when it is told to."""

    def __init__(self) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", VM_PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self.pid = self.popen.pid
        self._seen = b""
        self.wait_for(b"R")

    def wait_for(self, mark: bytes) -> None:
        """Wait until it has written ``mark``."""
        assert self.popen.stdout is not None
        while mark not in self._seen:
            readable = select.select([self.popen.stdout], [], [], DEADLINE)[0]
            assert readable, f"the VM did not write {mark!r}"
            more = os.read(self.popen.stdout.fileno(), 100)
            assert more, f"the VM ended without writing {mark!r}"
            self._seen += more

    def finish(self) -> None:
        """Let it end; returns at once."""
        assert self.popen.stdin is not None
        self.popen.stdin.close()

    def kill_and_reap(self) -> None:
        self.popen.kill()
        self.popen.wait()  # without a timeout: that would sleep, and sleeps are on record

    def become_zombie(self) -> None:
        """Let it end; at the return it has ended, and nobody has reaped it."""
        self.finish()
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    @property
    def terms(self) -> int:
        """How many SIGTERMs it saw; to be asked when it has ended."""
        self.popen.wait(DEADLINE)
        assert self.popen.stdout is not None
        self._seen += self.popen.stdout.read()
        return self._seen.count(b"T")

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait(DEADLINE)
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream is not None:
                stream.close()


class MakeVm(Protocol):
    def __call__(self) -> Vm: ...


class RecordingLock(OwnedLock):
    """Writes down, in the order in which they happen, takes and releases."""

    __slots__ = ("events",)

    def __init__(self, name: str, events: list[str]) -> None:
        super().__init__(name)
        self.events = events

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002 - threading's own signature
        taken = super().acquire(blocking, timeout)
        if taken:
            self.events.append(f"{self.name}.acquire")
        return taken

    def release(self) -> None:
        super().release()
        self.events.append(f"{self.name}.release")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A driver, a domain that runs as a VM, and the record of what happened to them."""

    driver: Driver
    domain: Domain
    vm: Vm
    events: list[str]

    def kill(
        self,
        flags: int = 0,
        *,
        policy: KillPolicy,
        without_driver: bool = False,
        dropped: int | None = 0,
    ) -> KillResult:
        """Call process_kill as its callers do; locks and references have to stay as they were.

        ``dropped``: how many references others drop meanwhile, ``None``: others come and go.
        """
        with ExitStack() as held:
            if not without_driver:
                held.enter_context(self.driver.lock)
            held.enter_context(self.domain.lock)
            refs = self.domain.ref()
            driver = None if without_driver else self.driver
            del self.events[:]
            try:
                return process_kill(driver, self.domain, flags, policy=policy)
            finally:
                self.events.append("return")
                assert self.driver.lock.held() != without_driver
                assert self.domain.lock.held()
                assert dropped is None or self.domain.refs == refs - dropped
                self.domain.unref()

    @property
    def seen(self) -> list[str]:
        """What happened during the call."""
        return self.events[: self.events.index("return")]


@pytest.fixture
def make_vm() -> Iterator[MakeVm]:
    vms: list[Vm] = []

    def make() -> Vm:
        vms.append(Vm())
        return vms[-1]

    yield make
    for vm in vms:
        vm.close()


@pytest.fixture
def scene(make_vm: MakeVm, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """With every signal and every sleep on record, in one list with the locks."""
    events: list[str] = []
    driver = Driver(
        make_lock=lambda name: RecordingLock(name.replace("domain web", "domain"), events)
    )
    vm = make_vm()
    domain = driver.define("web", vm.popen)
    send = signal.pidfd_send_signal

    def recorded_send(fd: int, signum: int) -> None:
        send(fd, signum)
        events.append(f"signal {int(signum)}")

    ended = PidfdTarget.ended

    def recorded_ended(target: PidfdTarget, timeout: float) -> bool:
        if timeout:
            events.append("wait")
        return ended(target, timeout)

    monkeypatch.setattr(signal, "pidfd_send_signal", recorded_send)
    monkeypatch.setattr(PidfdTarget, "ended", recorded_ended)
    return Scene(driver=driver, domain=domain, vm=vm, events=events)


@pytest.fixture(autouse=True)
def _no_pidfd_left() -> Iterator[None]:
    before = open_pidfds()
    yield
    assert open_pidfds() == before


def open_pidfds() -> int:
    links = [entry for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return sum("pidfd" in str(link.readlink()) for link in links)


def short(wait: Wait = "pidfd", drop: Drop = "both", **seconds: float) -> KillPolicy:
    times = {"grace": 0.04, "reap": 0.04, "poll": 0.02} | seconds
    return KillPolicy(wait=wait, drop=drop, **times)


def with_fake_sleep(
    monkeypatch: pytest.MonkeyPatch, events: list[str], step: Callable[[int], None] = lambda _: None
) -> list[float]:
    """Sleep in no time; ``step`` is called with the number of each sleep."""
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        events.append("sleep")
        step(len(sleeps))

    monkeypatch.setattr(time, "sleep", sleep)
    return sleeps


# what is sent, and what is said of it


@pytest.mark.parametrize("wait", WAITS)
def test_force_sends_sigkill_after_the_grace(scene: Scene, wait: Wait) -> None:
    reaper = threading.Thread(target=scene.vm.popen.wait, args=(DEADLINE,))
    reaper.start()
    result = scene.kill(FORCE, policy=short(wait, reap=DEADLINE))
    reaper.join(DEADLINE)
    assert (result.ok, result.dead, result.signal, result.errno) == (True, True, 9, None)
    assert result.sent == (15, 9)
    assert [event for event in scene.seen if event in ("signal 15", "signal 9")] == [
        "signal 15",
        "signal 9",
    ]
    assert result.elapsed >= 0.04
    assert scene.vm.popen.returncode == -9
    assert str(result).startswith("KillResult(dead, by SIGKILL, ")


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("flags", [0, FORCE])
def test_who_ends_within_the_grace_gets_no_sigkill(scene: Scene, wait: Wait, flags: int) -> None:
    def flush() -> None:
        scene.vm.wait_for(b"T")
        scene.vm.finish()
        scene.vm.popen.wait(DEADLINE)

    with ThreadPoolExecutor(1) as pool:
        flushing = pool.submit(flush)
        result = scene.kill(flags, policy=short(wait, grace=DEADLINE))
        flushing.result(DEADLINE)
    assert (result.ok, result.dead, result.signal, result.sent) == (True, True, 15, (15,))
    assert "signal 9" not in scene.seen
    assert scene.vm.popen.returncode == 0
    assert str(result).startswith("KillResult(dead, by SIGTERM, ")


@pytest.mark.parametrize("wait", WAITS)
def test_graceful_never_sends_sigkill_and_reports_failure(scene: Scene, wait: Wait) -> None:
    result = scene.kill(0, policy=short(wait))
    assert (result.ok, result.dead, result.signal, result.errno) == (False, False, None, None)
    assert result.elapsed >= 0.08
    assert "signal 9" not in scene.seen
    assert scene.vm.popen.poll() is None
    assert str(result).startswith("KillResult(alive after SIGTERM, ")
    scene.vm.finish()
    assert scene.vm.terms == 1


def test_the_graceful_pidfd_wait_sleeps_once(scene: Scene) -> None:
    scene.kill(0, policy=short())
    assert scene.seen.count("wait") == 1
    scene.kill(FORCE, policy=short())
    assert scene.seen.count("wait") == 2


@pytest.mark.parametrize(("flags", "signum"), [(NOWAIT, 15), (FORCE | NOWAIT, 9)])
@pytest.mark.parametrize("drop", DROPS)
def test_nowait_sends_one_signal_and_touches_no_lock(
    scene: Scene, flags: int, signum: int, drop: Drop
) -> None:
    result = scene.kill(flags, policy=short(drop=drop))
    assert (result.ok, result.dead, result.signal, result.errno) == (True, None, None, None)
    assert result.sent == (signum,)
    assert scene.seen == [f"signal {signum}"]
    assert str(result) == f"KillResult({signal.Signals(signum).name} sent, not waited)"


def test_nowait_needs_the_domain_lock_only(scene: Scene) -> None:
    with scene.domain.lock:
        assert process_kill(scene.driver, scene.domain, NOWAIT).ok
        assert scene.domain.lock.held()
    assert scene.events.count("driver.acquire") == 1  # define's


@pytest.mark.parametrize("flags", [0, FORCE, NOWAIT, FORCE | NOWAIT])
def test_an_inactive_domain_is_success_and_nothing_is_touched(flags: int) -> None:
    events: list[str] = []
    driver = Driver(make_lock=lambda name: RecordingLock(name, events))
    domain = driver.define("web")
    with driver.lock, domain.lock:
        del events[:]
        result = process_kill(driver, domain, flags)
        assert events == []
    assert (result.ok, result.dead, result.signal, result.sent) == (True, True, None, ())
    assert str(result) == "KillResult(was not running)"


@pytest.mark.parametrize("flags", [0, FORCE, FORCE | NOWAIT])
@pytest.mark.parametrize("wait", WAITS)
def test_gone_and_reaped_is_success(scene: Scene, flags: int, wait: Wait) -> None:
    scene.vm.kill_and_reap()
    result = scene.kill(flags, policy=short(wait))
    assert (result.ok, result.dead, result.signal, result.errno) == (True, True, None, None)
    assert scene.seen == []


def test_gone_at_the_first_signal_is_success(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_late(_fd: int, _signum: int) -> None:
        raise ProcessLookupError(errno.ESRCH, "No such process")

    monkeypatch.setattr(signal, "pidfd_send_signal", too_late)
    result = scene.kill(FORCE, policy=short())
    assert (result.ok, result.dead, result.signal, result.sent) == (True, True, None, ())
    assert scene.seen == []


@pytest.mark.parametrize("flags", [0, FORCE, NOWAIT, FORCE | NOWAIT])
@pytest.mark.parametrize("wait", WAITS)
def test_an_errno_at_the_first_signal_is_failure_and_beats_nowait(
    scene: Scene, flags: int, wait: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int, _signum: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
    result = scene.kill(flags, policy=short(wait))
    assert (result.ok, result.dead, result.errno) == (False, False, errno.EPERM)
    assert (result.signal, result.sent) == (None, ())
    assert scene.seen == []
    assert str(result) == "KillResult(failed: EPERM)"
    # it was never asked: the next call has to
    assert scene.domain.sent == []


@pytest.mark.parametrize("flags", [0, NOWAIT])
def test_no_descriptor_left_is_failure(
    scene: Scene, flags: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_pid: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", full)
    result = scene.kill(flags, policy=short())
    assert (result.ok, result.errno) == (False, errno.EMFILE)
    assert scene.seen == []


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("drop", DROPS)
def test_an_errno_at_sigkill_is_failure_with_the_locks_held(
    scene: Scene, wait: Wait, drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = signal.pidfd_send_signal

    def refuse_kill(fd: int, signum: int) -> None:
        if signum == 9:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        send(fd, signum)

    monkeypatch.setattr(signal, "pidfd_send_signal", refuse_kill)
    result = scene.kill(FORCE, policy=short(wait, drop))
    assert (result.ok, result.dead, result.errno) == (False, False, errno.EPERM)
    assert result.sent == (15,)
    assert str(result) == "KillResult(failed: EPERM after SIGTERM)"


# zombies, steps, the last look


def test_a_zombie_has_ended_for_pidfd_and_poll(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeps = with_fake_sleep(monkeypatch, scene.events)
    scene.vm.become_zombie()
    for wait in ("pidfd", "poll"):
        result = scene.kill(FORCE, policy=KillPolicy(wait=wait))
        assert (result.ok, result.dead, result.signal) == (True, True, None)
        assert scene.seen == []
    assert sleeps == []


@pytest.mark.parametrize("wait", ["pidfd", "poll"])
def test_a_zombie_that_ended_after_sigterm_has_ended(scene: Scene, wait: Wait) -> None:
    def flush() -> None:
        scene.vm.wait_for(b"T")
        scene.vm.finish()

    with ThreadPoolExecutor(1) as pool:
        flushing = pool.submit(flush)
        result = scene.kill(FORCE, policy=short(wait, grace=DEADLINE))
        flushing.result(DEADLINE)
    assert (result.dead, result.signal, result.sent) == (True, 15, (15,))


def test_for_the_seed_a_zombie_is_alive_to_the_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.vm.become_zombie()
    sleeps = with_fake_sleep(monkeypatch, scene.events)
    result = scene.kill(FORCE, policy=LIBVIRT_0_9_10)
    assert (result.ok, result.dead, result.signal) == (False, False, None)
    assert sleeps == [0.2] * 15
    assert result.sent == (15, 9)


@pytest.mark.parametrize(
    ("policy", "counts"), [(LIBVIRT_0_9_10, (15, 8)), (LIBVIRT_0_9_11, (75, 50))]
)
@pytest.mark.parametrize("flags", [0, FORCE])
def test_the_seed_counts_steps(
    scene: Scene,
    policy: KillPolicy,
    counts: tuple[int, int],
    flags: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps, kill_step = counts
    sleeps = with_fake_sleep(monkeypatch, scene.events)
    scene.kill(flags, policy=policy)
    assert sleeps == [0.2] * steps
    signals = [15, *[0] * (steps - 1)]
    if flags:
        signals[kill_step] = 9
    happened = [event for event in scene.seen if event.startswith(("signal", "sleep"))]
    # one signal, then one sleep, and no look after the last
    assert happened == [event for signum in signals for event in (f"signal {signum}", "sleep")]


def test_the_seed_sees_the_end_at_the_next_step(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(number: int) -> None:
        if number == 3:
            scene.vm.kill_and_reap()

    sleeps = with_fake_sleep(monkeypatch, scene.events, step)
    result = scene.kill(FORCE, policy=LIBVIRT_0_9_11)
    assert (result.ok, result.dead, result.signal, result.errno) == (True, True, 15, None)
    assert len(sleeps) == 3


def test_the_seed_does_not_look_after_its_last_sleep(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(number: int) -> None:
        if number == 75:
            scene.vm.kill_and_reap()

    with_fake_sleep(monkeypatch, scene.events, step)
    result = scene.kill(0, policy=LIBVIRT_0_9_11)
    assert (result.ok, result.dead) == (False, False)


def test_poll_takes_a_last_look_after_its_last_sleep(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0

    def step(_number: int) -> None:
        nonlocal now
        now += sleeps[-1]
        if now >= 1000.5:
            scene.vm.kill_and_reap()

    sleeps = with_fake_sleep(monkeypatch, scene.events, step)
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    result = scene.kill(0, policy=KillPolicy(grace=0.3, reap=0.2, wait="poll"))
    monkeypatch.undo()
    assert (result.ok, result.dead) == (True, True)
    # against a deadline: the last sleep is the rest
    assert sleeps == pytest.approx([0.2, 0.2, 0.1])


def test_poll_keeps_its_deadline_when_sleeps_are_late(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0

    def step(_number: int) -> None:
        nonlocal now
        now += 3.0

    sleeps = with_fake_sleep(monkeypatch, scene.events, step)
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    result = scene.kill(0, policy=KillPolicy(wait="poll"))
    monkeypatch.undo()
    assert result.dead is False
    assert len(sleeps) == 5


# locks and references


RETAKE = ["driver.acquire", "domain.acquire"]


@pytest.mark.parametrize("flags", [0, FORCE])
@pytest.mark.parametrize("wait", WAITS)
def test_the_locks_are_let_go_once_and_taken_again_in_order(
    scene: Scene, wait: Wait, flags: int
) -> None:
    for drop, let_go, before_retake in (
        ("none", [], None),
        ("driver", ["driver.release"], ["domain.release"]),
        ("both", ["driver.release", "domain.release"], []),
    ):
        scene.domain.begin(scene.domain.incarnation)
        scene.kill(0, policy=short(wait, drop))  # type: ignore[arg-type]
        locks = [event for event in scene.seen if "." in event]
        assert locks == (let_go if before_retake is None else let_go + before_retake + RETAKE)
        # asked first, then let go before the first sleep
        assert scene.seen[: 1 + len(let_go)] == ["signal 15", *let_go]
        if before_retake is not None:
            assert scene.seen[-len(before_retake + RETAKE) :] == before_retake + RETAKE


@pytest.mark.parametrize(
    ("drop", "locks"),
    [("none", []), ("driver", []), ("both", ["domain.release", "domain.acquire"])],
)
def test_without_a_driver_there_is_no_driver_lock(
    scene: Scene, drop: Drop, locks: list[str]
) -> None:
    scene.kill(0, policy=short(drop=drop), without_driver=True)
    assert [event for event in scene.seen if "." in event] == locks


def test_a_reference_is_held_during_the_wait_and_the_domain_may_be_undefined(scene: Scene) -> None:
    seen: list[int] = []

    def undefine() -> None:
        scene.vm.wait_for(b"T")
        with scene.driver.lock, scene.domain.lock:
            seen.append(scene.domain.refs)
            scene.driver.undefine("web")
        scene.vm.finish()

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(undefine)
        result = scene.kill(FORCE, policy=KillPolicy(grace=DEADLINE), dropped=1)
        other.result(DEADLINE)
    assert seen == [3]  # the list's, the caller's, the routine's
    assert result.dead
    assert scene.domain.refs == 0  # all three are gone
    assert scene.driver.find("web") is None


@pytest.mark.parametrize("flags", [0, FORCE])
@pytest.mark.parametrize("wait", ["pidfd", "poll"])
def test_what_is_started_meanwhile_is_another_incarnation(
    scene: Scene, make_vm: MakeVm, flags: int, wait: Wait
) -> None:
    successor = make_vm()

    def start_again() -> None:
        scene.vm.wait_for(b"T")
        with scene.driver.lock, scene.domain.lock:
            assert scene.driver.define("web", successor.popen) is scene.domain
        if not flags:
            scene.vm.finish()

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(start_again)
        # long enough for the new one to be there before the SIGKILL
        result = scene.kill(flags, policy=short(wait, grace=1.0, reap=DEADLINE))
        other.result(DEADLINE)
    assert (result.ok, result.dead, result.signal) == (True, True, 9 if flags else 15)
    assert (scene.domain.id, scene.domain.pid) == (2, successor.pid)
    assert scene.domain.sent == []
    assert successor.popen.poll() is None
    successor.finish()
    assert successor.terms == 0
    assert successor.popen.returncode == 0


def test_a_pid_that_was_used_again_is_not_signalled(scene: Scene, make_vm: MakeVm) -> None:
    stranger = make_vm()
    incarnation = scene.domain.incarnation
    assert incarnation is not None
    assert incarnation.started is not None
    # as if the VM had ended, and its pid had gone to the stranger
    reused = type(incarnation)(id=1, pid=stranger.pid, started=incarnation.started - 1)
    scene.domain.begin(reused)
    result = scene.kill(FORCE, policy=short())
    assert (result.ok, result.dead, result.signal) == (True, True, None)
    assert scene.seen == []
    stranger.finish()
    assert stranger.terms == 0


@pytest.mark.parametrize("held", ["nothing", "driver", "domain"])
def test_a_call_that_may_wait_without_its_locks_is_a_usage_error(scene: Scene, held: str) -> None:
    with ExitStack() as stack:
        if held == "driver":
            stack.enter_context(scene.driver.lock)
        elif held == "domain":
            stack.enter_context(scene.domain.lock)
        with pytest.raises(UsageError, match=r"without (driver|domain)\.lock"):
            process_kill(scene.driver, scene.domain, FORCE)
    assert scene.domain.sent == []
    scene.vm.finish()
    assert scene.vm.terms == 0


@pytest.mark.parametrize(("flags", "policy"), [(4, KillPolicy()), (True, KillPolicy()), (0, 10.0)])
def test_bad_flags_and_policies_are_usage_errors(
    scene: Scene, flags: int, policy: KillPolicy
) -> None:
    with scene.driver.lock, scene.domain.lock, pytest.raises(UsageError):
        process_kill(scene.driver, scene.domain, flags, policy=policy)
    assert scene.domain.sent == []


def test_locks_that_do_not_know_their_owner_are_kept_by_count(make_vm: MakeVm) -> None:
    driver = Driver()
    domain = driver.define("web", make_vm().popen)
    driver.lock, domain.lock = threading.Lock(), threading.Lock()  # type: ignore[assignment]
    with driver.lock, domain.lock:
        assert process_kill(driver, domain, 0, policy=short()).dead is False
        assert driver.lock.locked()
        assert domain.lock.locked()


# a second call


class Hung:
    """A first call that waits in a thread until the VM ends."""

    def __init__(self, scene: Scene, flags: int, grace: float = DEADLINE) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._call = self._pool.submit(self._run, scene, flags, KillPolicy(grace=grace))
        scene.vm.wait_for(b"T")

    @staticmethod
    def _run(scene: Scene, flags: int, policy: KillPolicy) -> KillResult:
        with scene.driver.lock, scene.domain.lock:
            return process_kill(scene.driver, scene.domain, flags, policy=policy)

    def result(self) -> KillResult:
        try:
            return self._call.result(DEADLINE)
        finally:
            self._pool.shutdown()


@pytest.mark.parametrize("wait", WAITS)
def test_a_second_call_joins_the_wait_without_a_second_sigterm(scene: Scene, wait: Wait) -> None:
    first = Hung(scene, 0)
    alive = scene.kill(0, policy=short(wait), dropped=None)
    assert (alive.ok, alive.dead, alive.sent) == (False, False, (15,))

    def finish_and_reap() -> None:
        scene.vm.finish()
        scene.vm.popen.wait(DEADLINE)

    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(finish_and_reap)
        second = scene.kill(0, policy=short(wait, grace=DEADLINE), dropped=None)
        ending.result(DEADLINE)
    assert [(call.ok, call.dead, call.signal) for call in (first.result(), second)] == [
        (True, True, 15),
        (True, True, 15),
    ]
    assert scene.vm.terms == 1
    assert scene.domain.refs == 1


def test_a_second_call_that_does_not_wait_sends_no_second_sigterm(scene: Scene) -> None:
    assert scene.kill(NOWAIT, policy=short()).ok
    result = scene.kill(NOWAIT, policy=short())
    assert (result.ok, result.dead, result.sent) == (True, None, (15,))
    scene.vm.finish()
    assert scene.vm.terms <= 1  # stdin may end before the first is seen


@pytest.mark.parametrize("flags", [FORCE, FORCE | NOWAIT])
def test_destroy_after_a_hanging_graceful_destroy(scene: Scene, flags: int) -> None:
    first = Hung(scene, 0)
    second = scene.kill(flags, policy=short(reap=DEADLINE), dropped=None)
    result = first.result()
    # the graceful call tells the truth, too: it was not SIGTERM that ended the VM
    assert (result.ok, result.dead, result.signal) == (True, True, 9)
    if flags == FORCE:
        assert (second.ok, second.dead, second.signal) == (True, True, 9)
        # the grace of the second counts from its own call
        assert second.elapsed >= 0.04
    else:
        assert (second.ok, second.dead, second.sent) == (True, None, (15, 9))
    assert scene.vm.terms == 1
    assert scene.domain.refs == 1
    assert scene.vm.popen.returncode == -9


def test_nothing_is_asked_politely_after_sigkill(scene: Scene) -> None:
    scene.kill(FORCE | NOWAIT, policy=short())
    result = scene.kill(0, policy=short(grace=DEADLINE))
    assert (result.ok, result.dead, result.signal, result.sent) == (True, True, 9, (9,))


def test_a_new_incarnation_is_asked_anew(scene: Scene, make_vm: MakeVm) -> None:
    scene.kill(NOWAIT, policy=short())
    scene.driver.define("web", make_vm().popen)
    assert scene.kill(NOWAIT, policy=short()).sent == (15,)
    assert scene.seen == ["signal 15"]


def test_sigkill_to_a_zombie_has_not_ended_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(number: int) -> None:
        if number == 8:  # the step before the SIGKILL: it ends by itself, and is not reaped
            scene.vm.become_zombie()
        if number == 10:
            scene.vm.popen.wait()

    with_fake_sleep(monkeypatch, scene.events, step)
    result = scene.kill(FORCE, policy=LIBVIRT_0_9_10)
    assert result.sent == (15, 9)
    assert (result.dead, result.signal) == (True, 15)


# where there is no pidfd


@pytest.fixture(params=["no pidfd_open", "ENOSYS"])
def without_pidfd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "no pidfd_open":
        monkeypatch.delattr(os, "pidfd_open")
    else:

        def not_implemented(_pid: int) -> int:
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(os, "pidfd_open", not_implemented)


@pytest.mark.usefixtures("without_pidfd")
@pytest.mark.parametrize("wait", WAITS)
def test_without_pidfd_psutil_does_it(make_vm: MakeVm, wait: Wait) -> None:
    driver, vm = Driver(), make_vm()
    domain = driver.define("web", vm.popen)
    reaper = threading.Thread(target=vm.popen.wait, args=(DEADLINE,))
    with driver.lock, domain.lock:
        alive = process_kill(driver, domain, 0, policy=short(wait))
        reaper.start()
        dead = process_kill(driver, domain, FORCE, policy=short(wait, reap=DEADLINE))
        gone = process_kill(driver, domain, FORCE, policy=short(wait))
    reaper.join(DEADLINE)
    assert (alive.ok, alive.dead, alive.sent) == (False, False, (15,))
    assert (dead.ok, dead.dead, dead.signal) == (True, True, 9)
    assert (gone.ok, gone.dead) == (True, True)
    assert vm.terms <= 1  # a busy machine may not let it see the first
    # psutil does not take the exit status away from its owner
    assert vm.popen.returncode == -9


def test_psutil_sees_a_zombie_and_leaves_it(make_vm: MakeVm) -> None:
    vm = make_vm()
    target = PsutilTarget(vm.pid)
    assert not target.ended(0.0)
    vm.become_zombie()
    assert target.ended(DEADLINE)
    target.send(0)  # as kill(2): a zombie is there
    assert vm.popen.wait(DEADLINE) == 0
    assert target.ended(0.0)
    for signum in (0, 15, 9):
        with pytest.raises(ProcessLookupError):
            target.send(signum)
    with pytest.raises(ProcessLookupError):
        PsutilTarget(vm.pid)
    target.close()


def test_a_wait_longer_than_a_c_int_is_cut_into_pieces(
    make_vm: MakeVm, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = make_vm()
    target = PidfdTarget(os.pidfd_open(vm.pid))
    monkeypatch.setattr(target_module, "_LONGEST_POLL", 0.01)
    try:
        assert not target.ended(0.05)
        vm.finish()
        assert target.ended(1e12)
    finally:
        target.close()
        target.close()


def test_an_end_that_comes_with_the_deadline_is_seen(
    make_vm: MakeVm, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = make_vm()
    target = PidfdTarget(os.pidfd_open(vm.pid))
    calls: list[None] = []

    def late() -> float:
        # the second time: after the sleep, which ended without it
        calls.append(None)
        if len(calls) == 2:
            vm.kill_and_reap()
        return 1000.0 * len(calls)

    with monkeypatch.context() as patch:
        patch.setattr(target_module, "_LONGEST_POLL", 0.0)
        patch.setattr(clock, "monotonic", late)
        ended = target.ended(1.0)
    target.close()
    assert ended
