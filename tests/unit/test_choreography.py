"""Named points of a trial: each is met in order and once, and the routine is held for the act."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from pytest_gracekill import choreography, participants
from pytest_gracekill.choreography import POINTS, Choreography
from pytest_gracekill.routine.flags import KillFlags
from pytest_gracekill.routine.policy import KillPolicy
from pytest_gracekill.routine.process_kill import process_kill
from pytest_gracekill.witness.history import History
from pytest_gracekill.witness.locks import LockTracer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from pytest_gracekill.choreography import Point
    from pytest_gracekill.fixtures import Judge
    from pytest_gracekill.routine.model import Domain, Driver
    from pytest_gracekill.routine.result import KillResult
    from pytest_gracekill.witness.locks import TracedLock

DEADLINE = 30.0


class Stage:
    """A driver, a domain, a VM that dies on request; the test's own thread is the routine."""

    def __init__(self, acts: Mapping[Point, Callable[[], object]]) -> None:
        self.tracer = LockTracer()
        self.driver = self.tracer.lock("driver")
        self.domain = self.tracer.lock("domain vm", class_="domain")
        self.alive = True
        self.history = History()
        self.choreography = Choreography(
            {point: (f"act-{number}", act) for number, (point, act) in enumerate(acts.items(), 1)},
            routine=threading.get_ident(),
            tracer=self.tracer,
            history=self.history,
            vm_alive=lambda: self.alive,
        )

    def routine(self) -> None:
        """What a routine that drops both locks does, and does again at the end."""
        with self.driver, self.domain:
            signalled(self)
            signalled(self)
            for _ in range(2):
                self.domain.release()
                self.driver.release()
                self.alive = False
                self.driver.acquire()
                self.domain.acquire()


def signalled(stage: Stage) -> None:
    """What the recorder does when the calling thread has sent a signal."""
    then = stage.choreography.after_signal()
    if then is not None:
        then()


@contextmanager
def elsewhere(work: Callable[[], object]) -> Iterator[threading.Thread]:
    """Have it done by another thread, which has ended at the end."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield thread
    thread.join(DEADLINE)
    assert not thread.is_alive()


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.001)


def held_for(stage: Stage) -> float:
    """For how many seconds the routine was held."""
    return sum(until_ns - since_ns for since_ns, until_ns in stage.choreography.pauses) / 1e9


def waits_for(lock: TracedLock) -> bool:
    return any(wait.lock == lock.name for wait in lock._tracer.history.waits)


# -- the points


def test_each_point_is_met_in_order_and_once() -> None:
    met: list[tuple[str, list[str], bool]] = []
    me = threading.get_ident()

    def act(point: str) -> Callable[[], None]:
        def note() -> None:
            met.append((point, [lock.name for lock in stage.tracer.held_by(me)], stage.alive))

        return note

    # handed over in another order than they come
    stage = Stage({point: act(point) for point in reversed(POINTS)})
    stage.routine()
    assert met == [
        ("first signal", ["driver", "domain vm"], True),
        ("first unlock", ["driver"], True),
        ("unlocked", [], True),
        ("exit", [], False),
        ("before the relock", [], False),
    ]
    stage.choreography.end(DEADLINE)
    assert stage.choreography.missed == ()
    assert stage.choreography.failed == []
    events = [event for event in stage.history.events() if event.kind == "point"]
    assert [event.fields["point"] for event in events] == list(POINTS)


def test_the_exit_is_no_point_while_the_vm_lives() -> None:
    met: list[str] = []
    stage = Stage(
        {"exit": lambda: met.append("exit"), "before the relock": lambda: met.append("relock")}
    )
    with stage.driver:
        pass
    with stage.driver:
        assert met == ["relock"]
    stage.alive = False
    with stage.driver:
        assert met == ["relock", "exit"]


def test_other_threads_meet_no_point() -> None:
    met: list[str] = []
    stage = Stage({point: lambda point=point: met.append(point) for point in POINTS})  # type: ignore[misc]
    with elsewhere(stage.routine):
        pass
    assert met == []
    stage.choreography.close()
    assert stage.choreography.missed == tuple(POINTS)


def test_after_the_return_no_point_is_met() -> None:
    met: list[str] = []
    stage = Stage({"first unlock": lambda: met.append("unlock")})
    stage.driver.acquire()
    stage.choreography.close()
    stage.driver.release()  # by who has called the routine
    signalled(stage)
    stage.choreography.end(DEADLINE)
    assert met == []
    assert stage.choreography.missed == ("first unlock",)
    assert stage.tracer.on_step is None


# -- who is held, and for how long


def test_the_routine_is_held_until_the_act_is_done() -> None:
    order: list[str] = []

    def act() -> None:
        # more than one look's worth, with locks that are free
        for step in range(20):
            with stage.driver:
                order.append(f"act {step}")
            time.sleep(0.001)

    stage = Stage({"unlocked": act})
    with stage.driver:
        pass
    order.append("routine")
    assert order == [*(f"act {step}" for step in range(20)), "routine"]
    ((since, until_ns),) = stage.choreography.pauses
    assert until_ns - since >= 20_000_000
    assert stage.choreography.actors == {"gracekill:act-1"}


def test_an_act_that_stands_before_a_lock_of_the_routines_does_not_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choreography, "_ACT", DEADLINE)
    got = threading.Event()

    def act() -> None:
        with stage.driver, stage.domain:
            got.set()

    stage = Stage({"first signal": act})
    with stage.driver, stage.domain:
        signalled(stage)
        assert not got.is_set()
        assert waits_for(stage.driver)
    assert held_for(stage) < DEADLINE / 2
    stage.choreography.end(DEADLINE)
    assert got.is_set()
    assert stage.choreography.failed == []


def test_an_act_that_stands_behind_others_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choreography, "_ACT", DEADLINE)
    got = threading.Event()

    def look_up() -> None:
        with stage.driver, stage.domain:
            pass

    def act() -> None:
        with stage.driver:
            got.set()

    stage = Stage({"first unlock": act})
    spare = stage.tracer.lock("spare")
    stage.domain.acquire()
    with elsewhere(look_up):
        until(lambda: waits_for(stage.domain), "nobody came for the domain")
        with spare:
            pass  # let go: the first unlock
        assert not got.is_set()
        assert held_for(stage) < DEADLINE / 2
        stage.domain.release()
    stage.choreography.end(DEADLINE)
    assert got.is_set()


def test_an_act_gets_in_time_what_a_contender_has() -> None:
    got = threading.Event()

    def contend() -> None:
        with stage.driver:
            held.set()
            until(lambda: waits_for(stage.driver), "the act never came")
            # as long as a busy machine takes: much longer than between two looks
            time.sleep(0.1)

    def act() -> None:
        with stage.driver:
            got.set()

    held = threading.Event()
    stage = Stage({"first unlock": act})
    with elsewhere(contend):
        assert held.wait(DEADLINE)
        with stage.domain:
            pass
        assert got.is_set()


def test_an_act_that_does_not_end_is_left_behind_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choreography, "_ACT", 0.05)
    over = threading.Event()
    stage = Stage({"unlocked": lambda: over.wait(DEADLINE)})
    with stage.driver:
        pass
    stage.choreography.end(0.05)
    assert stage.choreography.failed == ["act-1 (unlocked) did not end"]
    stage.choreography.end(0.05)  # a second one tells nothing twice
    assert stage.choreography.failed == ["act-1 (unlocked) did not end"]
    over.set()


def test_an_act_that_raises_is_told() -> None:
    def act() -> None:
        raise LookupError("no such domain")

    stage = Stage({"unlocked": act})
    with stage.driver:
        pass
    stage.choreography.end(DEADLINE)
    assert stage.choreography.failed == ["act-1 (unlocked) raised LookupError: no such domain"]
    (raised,) = [event for event in stage.history.events() if event.kind == "raised"]
    assert raised.actor == "gracekill:act-1"


# -- in a trial


def own(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    return process_kill(driver, domain, flags, policy=KillPolicy(drop="none"))


SHORT: dict[str, Any] = {"flush_time": 0.05, "contenders": 0, "flags": KillFlags.FORCE}


@pytest.mark.parametrize("point", ["first unlock", "unlocked", "exit", "before the relock"])
def test_a_missed_point_is_unknown(gracekill: Judge, point: Point) -> None:
    report = gracekill(own, at={point: "eof"}, **SHORT)
    verdict = report.verdicts["identity"]
    assert verdict.status == "unknown", report
    assert verdict.evidence == (
        f"the routine did not come to {point!r}, where something was to be done"
    )
    assert not [event for event in report.history.events() if event.kind == "torn_down"]


@pytest.mark.parametrize("point", POINTS)
def test_an_act_that_raised_is_unknown(gracekill: Judge, point: Point) -> None:
    def no_luck(driver: Driver, domain: Domain) -> None:
        raise LookupError("no such domain")

    report = gracekill(at={point: no_luck}, **SHORT)
    verdict = report.verdicts["identity"]
    assert verdict.status == "unknown", report
    assert verdict.evidence == f"no_luck ({point}) raised LookupError: no such domain"
    assert report.headline() == "gracekill: UNKNOWN identity"


def by_pidfd(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    finally:
        os.close(pidfd)


def by_os_kill(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)


def by_psutil(pid: int) -> None:
    psutil.Process(pid).terminate()


@pytest.mark.parametrize("send", [by_os_kill, by_pidfd, by_psutil])
def test_the_first_signal_has_been_sent_when_its_act_is_played(
    gracekill: Judge, send: Callable[[int], None]
) -> None:
    order: list[str] = []

    def note(driver: Driver, domain: Domain) -> None:
        # SIGTERM alone makes it flush and exit
        ended = select.poll()
        ended.register(pidfds[0], select.POLLIN)
        order.append("the VM has ended" if ended.poll(DEADLINE * 1000) else "it has not")

    def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
        assert domain.pid is not None
        pidfds.append(os.pidfd_open(domain.pid))
        send(domain.pid)
        order.append("the routine goes on")
        return process_kill(driver, domain, flags)

    pidfds: list[int] = []
    try:
        gracekill(destroy, at={"first signal": note}, **SHORT).check("data", "identity")
    finally:
        for pidfd in pidfds:
            os.close(pidfd)
    assert order == ["the VM has ended", "the routine goes on"]


def test_the_caller_has_a_reference_unless_the_domain_is_undefined(gracekill: Judge) -> None:
    refs: list[int] = []

    def counted(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
        refs.append(domain.refs)
        result = process_kill(driver, domain, flags)
        refs.append(domain.refs)
        return result

    gracekill(counted, **SHORT).check()
    assert refs == [2, 2]
    refs.clear()
    gracekill(counted, at={"unlocked": "undefine"}, **SHORT).check()
    assert refs == [1, 0]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_second_vm_is_seen_whoever_sends_it(
    gracekill: Judge, signum: signal.Signals
) -> None:
    def by_command(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
        domain.ref()
        result = process_kill(driver, domain, flags)
        pidfd = os.pidfd_open(domain.pid or 0)
        subprocess.run(["kill", f"-{signum.value}", str(domain.pid)], check=True)
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        assert ended.poll(DEADLINE * 1000)
        os.close(pidfd)
        domain.unref()
        return result

    report = gracekill(by_command, at={"unlocked": "restart"}, **SHORT)
    verdict = report.verdicts["identity"]
    assert (verdict.status, verdict.word) == ("broken", "WRONG VM"), report
    assert f"{signum.name} to the VM that was started meanwhile at t+" in verdict.evidence
    assert verdict.evidence.endswith("by its journal")


@pytest.mark.parametrize("first", ["undefine", "restart"])
def test_undefined_and_started_again_in_either_order(gracekill: Judge, first: str) -> None:
    second = {"undefine": "restart", "restart": "undefine"}[first]
    gracekill(at={"unlocked": first, "before the relock": second}, **SHORT).check()


def test_a_routine_that_is_cut_off_while_it_is_held_shows_its_own_line(
    gracekill: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(participants, "JOIN", 0.2)

    def takes_its_time(driver: Driver, domain: Domain) -> None:
        over.wait(DEADLINE)

    def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
        driver.lock.release()
        driver.lock.acquire()
        return process_kill(driver, domain, flags)

    over = threading.Event()
    report = gracekill(destroy, at={"first unlock": takes_its_time}, budget=0.3, **SHORT)
    over.set()
    verdict = report.verdicts["promptness"]
    assert verdict.word == "HUNG", report
    assert verdict.evidence.endswith(" in destroy"), verdict
    verdict = report.verdicts["identity"]
    assert verdict.status == "unknown", report
    assert verdict.evidence == "takes_its_time (first unlock) did not end"


def test_an_interrupted_trial_does_not_wait_for_who_stands_before_its_locks(
    gracekill: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(driver: Driver, domain: Domain) -> None:
        with driver.lock:
            got.set()

    def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> None:
        assert domain.pid is not None
        os.kill(domain.pid, signal.SIGTERM)
        raise KeyboardInterrupt

    monkeypatch.setattr(participants, "JOIN", DEADLINE)
    got = threading.Event()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        gracekill(destroy, at={"first signal": look}, **SHORT)
    assert got.is_set()
    assert time.monotonic() - began < DEADLINE / 2


def test_waiting_on_a_condition_of_the_users_is_an_unlock(gracekill: Judge) -> None:
    class Manager:
        def __init__(self) -> None:
            self.lock = threading.RLock()
            self.changed = threading.Condition(self.lock)

    def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
        with manager.changed:
            manager.changed.wait(0.001)
        return process_kill(driver, domain, flags)

    def note(driver: Driver, domain: Domain) -> None:
        held.append((driver.lock.locked(), domain.lock.locked(), domain.pid is None))

    held: list[tuple[bool, bool, bool]] = []
    manager = Manager()
    at: dict[Point, Any] = {"first unlock": note, "before the relock": note, "exit": note}
    gracekill(destroy, at=at, locks=[(manager, "lock")], **SHORT).check()
    # two within the wait, with the locks of the model held; the last when they were let go
    assert held == [(True, True, False), (True, True, False), (False, False, False)]


class InterruptedError_(Exception):  # noqa: N801, N818 - not the builtin of that name
    """What a signal's handler raises in the routine's thread."""


@pytest.mark.parametrize("point", POINTS)
def test_nothing_is_left_after_an_exception_at_each_point(
    gracekill: Judge, tmp_path_factory: pytest.TempPathFactory, point: Point
) -> None:
    def handle(_signum: int, _frame: FrameType | None) -> None:
        raise InterruptedError_(point)

    def interrupt(driver: Driver, domain: Domain) -> None:
        signal.pthread_kill(main, signal.SIGUSR1)
        until(lambda: raised, "the routine's thread did not take it")

    def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
        try:
            return process_kill(driver, domain, flags)
        except InterruptedError_ as error:
            raised.append(error)
            raise

    raised: list[BaseException] = []
    main = threading.get_ident()
    before = (os.kill, os.killpg, signal.pidfd_send_signal, threading.Lock)
    previous = signal.signal(signal.SIGUSR1, handle)
    try:
        # the second VM is there, too
        others: dict[Point, str] = {"unlocked": "restart", "first unlock": "restart"}
        others.pop(point, None)
        gracekill(destroy, at={**others, point: interrupt}, **SHORT).ignore()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert [str(error) for error in raised] == [point]
    assert (os.kill, os.killpg, signal.pidfd_send_signal, threading.Lock) == before
    until(lambda: not _ours(), f"threads are left: {_ours()}")
    root = str(tmp_path_factory.getbasetemp())
    assert not [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if any(root in argument for argument in process.info["cmdline"] or ())
    ]


def _ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("gracekill:")]
