"""A wait that nobody can end any more is broken up; one that somebody could end is not."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import threading
import types
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gracekill.witness import traced_lock
from pytest_gracekill.witness.adopted import adopted
from pytest_gracekill.witness.dead_end import PATIENCE, NotifierGone, OwnerEnded
from pytest_gracekill.witness.locks import DeadlockDetected, LockTracer
from pytest_gracekill.witness.wait_graph import CONFIRM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from pytest_gracekill.witness.locks import TracedLock

DEADLINE = 30.0


class Thread(threading.Thread):
    """A thread whose DeadlockDetected is kept, and that has ended when it is joined."""

    def __init__(self, body: Callable[[], object], name: str = "worker") -> None:
        super().__init__(name=name, daemon=True)
        self._body = body
        self.error: DeadlockDetected | None = None
        self.start()

    def run(self) -> None:
        try:
            self._body()
        except DeadlockDetected as error:
            self.error = error

    def end(self) -> DeadlockDetected | None:
        self.join(DEADLINE)
        assert not self.is_alive(), f"{self.name} has not ended within {DEADLINE} s"
        return self.error


def until(condition: Callable[[], object]) -> None:
    pause = threading.Event()
    for _ in range(int(DEADLINE * 1000)):
        if condition():
            return
        pause.wait(0.001)
    raise TimeoutError(f"waited {DEADLINE} s")


def line_of(function: Callable[..., object], text: str) -> int:
    with open(__file__, encoding="utf-8") as file:  # noqa: PTH123 (a Path is not needed)
        lines = file.read().splitlines()
    first = function.__code__.co_firstlineno
    return next(n for n, line in enumerate(lines[first:], start=first + 1) if text in line)


def waits(tracer: LockTracer) -> list[str]:
    return [wait.lock for wait in tracer.history.waits if wait.until_ns is None]


class Locks:
    """One traced lock of each kind, ours or adopted; closed at the end of a test."""

    def __init__(self, kind: str) -> None:
        self.tracer = LockTracer()
        self.stack = ExitStack()
        if kind in ("lock", "rlock"):
            self.lock: TracedLock = getattr(self.tracer, kind)("a")
            self.original: Any = None
        else:
            self.original = {
                "user's lock": threading.Lock,
                "user's rlock": threading.RLock,
                "user's rlock in Python": threading._PyRLock,  # type: ignore[attr-defined]
            }[kind]()
            owner = types.SimpleNamespace(a=self.original)
            (self.lock,) = self.stack.enter_context(adopted([(owner, "a")], self.tracer))


KINDS = ("lock", "rlock", "user's lock", "user's rlock", "user's rlock in Python")


@pytest.fixture(params=KINDS)
def locks(request: pytest.FixtureRequest) -> Iterator[Locks]:
    made = Locks(request.param)
    with made.stack:
        yield made


# -- a lock whose owner has ended


def leave_behind(lock: TracedLock) -> None:
    lock.acquire()  # left behind


def test_a_lock_left_behind_is_found_and_named(locks: Locks) -> None:
    lock, tracer = locks.lock, locks.tracer
    Thread(lambda: leave_behind(lock), "leaver").end()
    with pytest.raises(DeadlockDetected, match=r"waits for .*a, which leaver took") as raised:
        lock.acquire()  # wanted
    (found,) = tracer.deadlocks
    assert isinstance(found, OwnerEnded)
    assert found is raised.value.deadlock
    assert found.threads == (threading.current_thread().name, "leaver")
    assert found.locks == (lock.name,)
    taken = line_of(leave_behind, "left behind")
    wanted = line_of(test_a_lock_left_behind_is_found_and_named, "# wanted")
    assert (found.taken_at[0].file, found.taken_at[0].line) == (__file__, taken)
    assert (found.waiting_at[0].file, found.waiting_at[0].line) == (__file__, wanted)
    text = found.describe()
    assert f"leaver has ended and held {lock.name}, taken at" in text
    assert f"{__name__.rpartition('.')[2]}.py:{taken} in leave_behind" in text
    assert "release the lock on every path" in found.advice
    assert pickle.loads(pickle.dumps(raised.value)).deadlock == found


def test_the_others_go_on(locks: Locks) -> None:
    """One victim where the lock can be opened; where only its owner could, all, told once."""
    lock, tracer = locks.lock, locks.tracer
    left = threading.Event()

    def take() -> None:
        assert left.wait(DEADLINE)
        with lock:
            pass

    # begun before: an RLock takes a thread with the identity of its ended owner for that one
    threads = [Thread(take) for _ in range(3)]
    Thread(lambda: leave_behind(lock)).end()
    left.set()
    errors = [thread.end() for thread in threads]
    can_be_opened = locks.original is None or not lock.reentrant
    assert sum(error is not None for error in errors) == (1 if can_be_opened else 3)
    assert len(tracer.deadlocks) == 1
    assert lock.owner is None or not can_be_opened


def test_found_while_it_is_waited_for(locks: Locks) -> None:
    """The owner ends when the wait has begun long since."""
    lock, tracer = locks.lock, locks.tracer
    leave = threading.Event()
    taken = threading.Event()

    def keep() -> None:
        lock.acquire()
        taken.set()
        assert leave.wait(DEADLINE)

    keeper = Thread(keep, "keeper")
    assert taken.wait(DEADLINE)
    waiter = Thread(lock.acquire, "waiter")
    until(lambda: waits(tracer))
    leave.set()
    keeper.end()
    assert isinstance(waiter.end(), DeadlockDetected)
    (found,) = tracer.deadlocks
    assert found.threads == ("waiter", "keeper")


def test_a_lock_that_was_used_as_a_mutex_is_found_sooner() -> None:
    spans = {}
    for used in (True, False):
        tracer = LockTracer()
        lock = tracer.lock("a")
        if used:
            with lock:
                pass
        Thread(lambda lock=lock: leave_behind(lock)).end()  # type: ignore[misc]
        with pytest.raises(DeadlockDetected):
            lock.acquire()
        (found,) = tracer.deadlocks
        assert isinstance(found, OwnerEnded)
        spans[used] = (found.at_ns - found.waiting_since_ns) / 1e9
    assert spans[True] >= CONFIRM
    assert spans[False] >= PATIENCE


def test_an_ended_thread_that_is_only_said_to_have_ended() -> None:
    tracer = LockTracer()
    lock = tracer.rlock("a")
    over = threading.Event()

    def finish() -> None:
        lock.acquire()
        tracer.finish()
        assert over.wait(DEADLINE)

    thread = Thread(finish)
    until(lock.locked)
    with pytest.raises(DeadlockDetected):
        lock.acquire()
    over.set()
    thread.end()


@pytest.mark.parametrize("kind", ["lock", "user's lock"])
def test_a_hand_over_by_a_thread_that_outlives_the_taker(kind: str) -> None:
    """The first one comes within the patience, the later ones whenever they like."""
    made = Locks(kind)
    with made.stack:
        lock = made.lock
        for pause in (PATIENCE / 5, PATIENCE * 1.5):
            Thread(lambda: leave_behind(lock)).end()

            def hand_over(pause: float = pause) -> None:
                until(lambda: waits(made.tracer))
                threading.Event().wait(pause)
                lock.release()

            giver = Thread(hand_over)
            assert lock.acquire()
            giver.end()
            lock.release()
        assert lock.is_semaphore
        assert made.tracer.deadlocks == []


def test_a_lock_of_a_class_that_is_handed_over_is_waited_for() -> None:
    tracer = LockTracer()
    other, lock = tracer.lock("done-1", "done"), tracer.lock("done-2", "done")
    other.acquire()
    Thread(other.release).end()
    Thread(lambda: leave_behind(lock)).end()

    def hand_over() -> None:
        until(lambda: waits(tracer))
        threading.Event().wait(PATIENCE * 1.5)
        lock.release()

    giver = Thread(hand_over)
    assert lock.acquire()
    giver.end()
    assert tracer.deadlocks == []


def test_timed_waits_and_tries_for_what_was_left_behind(locks: Locks) -> None:
    lock, tracer = locks.lock, locks.tracer
    Thread(lambda: leave_behind(lock)).end()
    assert lock.acquire(timeout=PATIENCE * 1.5) is False
    assert lock.acquire(blocking=False) is False
    assert tracer.deadlocks == []


def test_an_owner_that_lives_is_waited_for(locks: Locks) -> None:
    lock, tracer = locks.lock, locks.tracer
    taken = threading.Event()

    def keep() -> None:
        with lock:
            taken.set()
            until(lambda: waits(tracer))
            threading.Event().wait(PATIENCE * 1.5)

    keeper = Thread(keep)
    assert taken.wait(DEADLINE)
    with lock:
        pass
    keeper.end()
    assert tracer.deadlocks == []


@pytest.mark.parametrize("kind", ["user's rlock", "user's rlock in Python"])
def test_an_rlock_that_somebody_has_by_a_name_that_is_not_traced(kind: str) -> None:
    """Let go by that name, too: the trace still has the ended thread as its owner."""
    made = Locks(kind)
    with made.stack:
        lock, original = made.lock, made.original

        def mixes_names() -> None:
            lock.acquire()
            original.release()

        Thread(mixes_names).end()
        taken = threading.Event()

        def keep() -> None:
            with original:
                taken.set()
                until(lambda: waits(made.tracer))
                threading.Event().wait(CONFIRM * 4)

        keeper = Thread(keep)
        assert taken.wait(DEADLINE)
        with lock:
            pass
        keeper.end()
        assert made.tracer.deadlocks == []


def test_owners_that_end_one_after_the_other_are_no_finding() -> None:
    """Threads that take it once and end, while others wait for it: the lock changes hands."""
    tracer = LockTracer()
    lock = tracer.lock("a")

    def take() -> None:
        with lock:
            pass

    for _ in range(20):
        threads = [Thread(take) for _ in range(10)]
        assert [thread.end() for thread in threads] == [None] * 10
    assert tracer.deadlocks == []


# -- a condition that nobody can notify

# in these tests the main thread waits itself: as long as it runs, it is able to notify


class Conditions:
    """A traced condition, ours or adopted."""

    def __init__(self, kind: str) -> None:
        self.tracer = LockTracer()
        self.stack = ExitStack()
        if kind == "ours":
            self.condition: threading.Condition = self.tracer.condition("changed")
        else:
            lock = threading.Lock() if kind == "user's, a Lock" else threading.RLock()
            owner = types.SimpleNamespace(lock=lock, changed=threading.Condition(lock))
            self.stack.enter_context(adopted([(owner, "lock")], self.tracer))
            self.condition = owner.changed


@pytest.fixture(params=["ours", "user's, a Lock", "user's, an RLock"])
def made(request: pytest.FixtureRequest) -> Iterator[Conditions]:
    conditions = Conditions(request.param)
    with conditions.stack:
        yield conditions


def test_a_condition_whose_notifier_is_gone(made: Conditions) -> None:
    condition, tracer = made.condition, made.tracer

    def end_early() -> None:
        with condition:
            pass  # and does not notify

    with condition:
        notifier = Thread(end_early, "notifier")
        with pytest.raises(DeadlockDetected, match=r"waits on the condition .*changed") as raised:
            condition.wait()  # waited on
        assert condition._is_owned()  # type: ignore[attr-defined]
    notifier.end()
    (found,) = tracer.deadlocks
    assert isinstance(found, NotifierGone)
    assert found is raised.value.deadlock
    assert found.locks[0].endswith("changed")
    line = line_of(test_a_condition_whose_notifier_is_gone, "# waited on")
    assert (found.waiting_at[0].file, found.waiting_at[0].line) == (__file__, line)
    assert "notifier" in found.ended
    assert "  notifier has ended" in found.describe()
    assert f"test_dead_ends.py:{line} in" in found.describe()
    assert pickle.loads(pickle.dumps(raised.value)).deadlock == found
    # as after any wait: nobody is left among the waiters
    assert not condition._waiters  # type: ignore[attr-defined]


def test_wait_for_is_found_as_well(made: Conditions) -> None:
    with made.condition, pytest.raises(DeadlockDetected):
        made.condition.wait_for(lambda: False)


def test_the_others_wait_for_good_themselves(made: Conditions) -> None:
    """One for what the main thread holds, one on another condition: neither can notify."""
    condition, tracer = made.condition, made.tracer
    held, other = tracer.lock("held"), tracer.condition("other")

    def wait_on_other() -> None:
        with other:
            other.wait()

    held.acquire()
    blocked = Thread(held.acquire, "blocked")
    waiting = Thread(wait_on_other, "waiting")
    until(lambda: "held" in waits(tracer))
    with condition, pytest.raises(DeadlockDetected):
        condition.wait()
    # now that the main thread goes on, it may notify
    with other:
        other.notify_all()
    held.release()
    assert blocked.end() is None
    # the other one may have been the victim, and the main thread the next
    assert len(tracer.deadlocks) == 1 + (waiting.end() is not None)
    found = tracer.deadlocks[-1]
    assert isinstance(found, NotifierGone)
    assert found.threads == (threading.current_thread().name,)
    assert "blocked waits for held" in found.blocked


# -- and one that somebody may notify


def notified(made: Conditions, notify: Callable[[], object]) -> None:
    """Have the main thread wait until this, in another thread, lets it go."""
    with made.condition:
        thread = Thread(notify)
        assert made.condition.wait() is True
    assert thread.end() is None
    assert made.tracer.deadlocks == []


LONG = 0.3  # longer than the alarm would take


def test_a_thread_that_sleeps_may_notify(made: Conditions) -> None:
    def notify() -> None:
        threading.Event().wait(LONG)
        with made.condition:
            made.condition.notify()

    notified(made, notify)


@pytest.mark.parametrize("how", ["timed lock", "timed condition", "untraced lock", "join"])
def test_a_thread_that_waits_for_something_else_may_notify(made: Conditions, how: str) -> None:
    tracer = made.tracer
    held, plain = tracer.lock("held"), threading.Lock()
    held.acquire()
    plain.acquire()

    def notify() -> None:
        if how == "timed lock":
            held.acquire(timeout=LONG)
        elif how == "timed condition":
            with made.condition:
                made.condition.wait(LONG)
        elif how == "untraced lock":
            threading.Timer(LONG, plain.release).start()
            plain.acquire()
        else:
            Thread(lambda: threading.Event().wait(LONG)).end()
        with made.condition:
            made.condition.notify_all()

    notified(made, notify)


def test_a_thread_that_has_never_used_a_traced_lock_may_notify(made: Conditions) -> None:
    condition = made.condition
    over = threading.Event()

    def notify() -> None:
        over.wait(LONG)
        with condition:
            condition.notify()

    stranger = Thread(notify)
    with condition:
        assert condition.wait() is True
    stranger.end()
    assert made.tracer.deadlocks == []


def test_a_thread_that_is_about_to_start_another_may_notify(made: Conditions) -> None:
    def notify() -> None:
        with made.condition:
            made.condition.notify()

    def start() -> None:
        threading.Event().wait(LONG)
        Thread(notify)

    notified(made, start)


def test_a_thread_in_a_circle_is_freed_and_notifies(
    made: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its deadlock is another finding; whoever is freed by that notifies."""
    # the wait on the condition is looked at several times before the circle is broken up
    monkeypatch.setattr(traced_lock, "CONFIRM", 0.4)
    tracer = made.tracer
    one, two = tracer.lock("one"), tracer.lock("two")
    meet = threading.Barrier(2)

    def take(first: TracedLock, second: TracedLock) -> None:
        with first:
            meet.wait(DEADLINE)
            with second:
                pass
        with made.condition:
            made.condition.notify()

    with made.condition:
        threads = [Thread(lambda: take(one, two)), Thread(lambda: take(two, one))]
        assert made.condition.wait() is True
    assert sum(thread.end() is not None for thread in threads) == 1
    assert [type(found).__name__ for found in tracer.deadlocks] == ["Deadlock"]


def test_a_signal_handler_may_notify() -> None:
    tracer = LockTracer()
    condition = tracer.condition("changed")

    def handle(_signum: int, _frame: FrameType | None) -> None:
        with condition:
            condition.notify()

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with condition:
            # by a process: a thread that lives is able to notify anyhow
            sender = subprocess.Popen(["sh", "-c", f"sleep {LONG}; kill -USR1 {os.getpid()}"])
            try:
                assert condition.wait() is True
            finally:
                sent = sender.wait(DEADLINE)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert sent == 0
    assert tracer.deadlocks == []
