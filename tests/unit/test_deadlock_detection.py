"""A closed cycle of waits is found by the acquire that closes it; legal patterns raise no alarm."""

from __future__ import annotations

import pickle
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill.witness.locks import Deadlock, DeadlockDetected, LockTracer

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from pytest_gracekill.witness.locks import TracedLock

DEADLINE = 30.0


class Worker(threading.Thread):
    """A thread that remembers whether it was made the victim of a deadlock."""

    def __init__(self, name: str, body: Callable[[], object]) -> None:
        super().__init__(name=name, daemon=True)
        self.body = body
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.body()
        except (DeadlockDetected, AssertionError) as error:
            self.error = error

    def finish(self) -> BaseException | None:
        self.join(DEADLINE)
        assert not self.is_alive(), f"{self.name} has not ended within {DEADLINE} s"
        return self.error


def until(condition: Callable[[], bool], what: str) -> None:
    pause = threading.Event()
    for _ in range(int(DEADLINE * 1000)):
        if condition():
            return
        pause.wait(0.001)
    raise TimeoutError(f"waited {DEADLINE} s for {what}")


def waits_of(tracer: LockTracer) -> list[str]:
    """The locks that are waited for now."""
    return [wait.lock for wait in tracer.history.waits if wait.until_ns is None]


def line_of(function: Callable[..., object], text: str) -> int:
    """The line in this file within a function that contains a text."""
    with open(__file__, encoding="utf-8") as file:  # noqa: PTH123 (a Path is not needed)
        lines = file.read().splitlines()
    first = function.__code__.co_firstlineno
    return next(
        number for number, line in enumerate(lines[first:], start=first + 1) if text in line
    )


def take_both(first: TracedLock, second: TracedLock, meet: threading.Barrier) -> None:
    with first:  # taken first
        meet.wait(DEADLINE)
        with second:  # taken second
            pass


def made(tracer: LockTracer, kind: str, names: str) -> list[TracedLock]:
    return [tracer.lock(name) if kind == "lock" else tracer.rlock(name) for name in names]


@pytest.mark.parametrize("kind", ["lock", "rlock"])
@pytest.mark.parametrize("names", ["ab", "abc"])
def test_a_circle_of_threads_has_one_victim_and_the_others_finish(kind: str, names: str) -> None:
    tracer = LockTracer()
    locks = made(tracer, kind, names)
    meet = threading.Barrier(len(locks))
    workers = [
        Worker(
            f"thread-{lock.name}",
            lambda lock=lock, following=following: take_both(lock, following, meet),  # type: ignore[misc]
        )
        for lock, following in zip(locks, locks[1:] + locks[:1], strict=True)
    ]
    errors = [worker.finish() for worker in workers]
    assert sum(isinstance(error, DeadlockDetected) for error in errors) == 1, errors
    assert sum(error is None for error in errors) == len(names) - 1, errors
    (deadlock,) = tracer.deadlocks
    assert isinstance(deadlock, Deadlock)
    assert sorted(deadlock.locks) == list(names)
    assert sorted(deadlock.threads) == [f"thread-{name}" for name in names]
    for step, following in zip(
        deadlock.steps, deadlock.steps[1:] + deadlock.steps[:1], strict=True
    ):
        assert step.thread == f"thread-{step.holds}"
        assert step.waits_for == following.holds
        assert step.waiting_since_ns >= step.held_since_ns
    # the first step is the victim
    victim = next(worker for worker in workers if worker.error is not None)
    assert deadlock.steps[0].thread == victim.name
    for lock in locks:
        assert not lock.locked()
        assert lock.owner is None
    for worker in workers:
        assert worker.ident is not None
        assert tracer.held_by(worker.ident) == []


def test_the_report_names_both_locks_and_both_places_in_both_threads() -> None:
    tracer = LockTracer()
    driver, domain = tracer.lock("driver"), tracer.lock("domain vm", "domain")
    meet = threading.Barrier(2)

    def destroy() -> None:
        with driver:  # destroy takes the driver
            meet.wait(DEADLINE)
            with domain:  # destroy wants the domain
                pass

    def end_of_file() -> None:
        domain.acquire()  # end_of_file takes the domain
        try:
            meet.wait(DEADLINE)
            driver.acquire()  # end_of_file wants the driver
            driver.release()
        finally:
            domain.release()

    workers = [Worker("main", destroy), Worker("eof", end_of_file)]
    assert sum(worker.finish() is not None for worker in workers) == 1
    (deadlock,) = tracer.deadlocks
    assert isinstance(deadlock, Deadlock)
    steps = {step.thread: step for step in deadlock.steps}
    for name, function in (("main", destroy), ("eof", end_of_file)):
        step = steps[name]
        taken = line_of(function, "takes the d")
        wanted = line_of(function, "wants the d")
        assert (step.taken_at[0].file, step.taken_at[0].line) == (__file__, taken)
        assert (step.waiting_at[0].file, step.waiting_at[0].line) == (__file__, wanted)
        assert [frame.function for frame in step.waiting_at] == [function.__name__, "Worker.run"]
        text = deadlock.describe()
        assert f"{Path(__file__).name}:{taken} in {function.__name__}" in text
        assert f"{Path(__file__).name}:{wanted} in {function.__name__}" in text
    assert "main holds driver, taken at" in text
    assert "main waits for domain vm at" in text
    assert "eof holds domain vm, taken at" in text
    assert "eof waits for driver at" in text
    assert "witness" not in text
    assert "\n" not in str(deadlock)
    assert "main holds driver and waits for domain vm" in str(deadlock)


def test_a_lock_taken_again_by_its_owner_is_a_deadlock_of_one() -> None:
    tracer = LockTracer()
    lock = tracer.lock("a")
    with lock:
        with pytest.raises(DeadlockDetected, match="holds a and waits for a") as raised:
            lock.acquire()
        assert lock.held()
    assert not lock.locked()
    deadlock = raised.value.deadlock
    assert isinstance(deadlock, Deadlock)
    (step,) = deadlock.steps
    assert (step.holds, step.waits_for) == ("a", "a")
    assert step.taken_at[0].line < step.waiting_at[0].line
    assert "deadlock of 1 thread over 1 lock" in raised.value.deadlock.describe()
    assert tracer.deadlocks == [raised.value.deadlock]
    (wait,) = tracer.history.waits
    assert not wait.acquired


def test_it_is_reported_within_a_tenth_of_a_second() -> None:
    tracer = LockTracer()
    lock = tracer.lock("a")
    with lock, pytest.raises(DeadlockDetected):
        lock.acquire()
    deadlock = tracer.deadlocks[0]
    assert isinstance(deadlock, Deadlock)
    (step,) = deadlock.steps
    # ten times the promise: a hang is what must not pass
    assert tracer.deadlocks[0].at_ns - step.waiting_since_ns < 1_000_000_000


def test_the_error_can_be_pickled() -> None:
    lock = LockTracer().lock("a")
    with lock, pytest.raises(DeadlockDetected) as raised:
        lock.acquire()
    copy = pickle.loads(pickle.dumps(raised.value))
    assert isinstance(copy, DeadlockDetected)
    assert isinstance(copy.deadlock, Deadlock)
    assert copy.deadlock == raised.value.deadlock
    assert str(copy) == str(raised.value)


def test_a_bystander_of_a_cycle_gets_the_lock_in_the_end() -> None:
    tracer = LockTracer()
    one, two = made(tracer, "lock", "ab")
    meet = threading.Barrier(3)

    def stand_by() -> None:
        meet.wait(DEADLINE)
        with one:
            pass

    workers = [
        Worker("x", lambda: take_both(one, two, meet)),
        Worker("y", lambda: take_both(two, one, meet)),
    ]
    bystander = Worker("z", stand_by)
    assert bystander.finish() is None
    assert sum(worker.finish() is not None for worker in workers) == 1
    (deadlock,) = tracer.deadlocks
    assert isinstance(deadlock, Deadlock)
    assert set(deadlock.threads) == {"x", "y"}


def test_rlock_taken_again_is_no_deadlock() -> None:
    tracer = LockTracer()
    lock = tracer.rlock("a")
    with lock, lock, lock:
        assert lock.held()
    assert not lock.locked()
    assert tracer.deadlocks == []


def test_handing_a_lock_over_is_no_deadlock() -> None:
    """The first owner takes it again, while another thread releases it 10 ms later."""
    tracer = LockTracer()
    lock = tracer.lock("a")
    lock.acquire()

    def hand_over() -> None:
        until(lambda: any(wait.until_ns is None for wait in tracer.history.waits), "the wait")
        # the pattern itself has a pause; nothing is synchronised by it
        threading.Event().wait(0.01)
        lock.release()

    giver = Worker("giver", hand_over)
    assert lock.acquire()
    assert giver.finish() is None
    lock.release()
    assert tracer.deadlocks == []
    assert lock.is_semaphore
    assert tracer.order_cycles() == []


def test_a_circle_that_a_hand_over_opens_is_no_deadlock() -> None:
    """The lock waited for stays taken for long after; only the circle has gone."""
    tracer = LockTracer()
    one, two = made(tracer, "lock", "ab")
    one.acquire()
    meet = threading.Barrier(2)
    over = threading.Event()

    def keep() -> None:
        with two:
            meet.wait(DEADLINE)
            one.acquire()
            over.wait(0.2)
            one.release()

    def hand_over() -> None:
        until(lambda: sorted(waits_of(tracer)) == ["a", "b"], "both waits")
        one.release()

    keeper, giver = Worker("keeper", keep), Worker("giver", hand_over)
    meet.wait(DEADLINE)
    until(lambda: waits_of(tracer) == ["a"], "the keeper's wait")
    with two:
        pass
    assert keeper.finish() is None
    assert giver.finish() is None
    assert tracer.deadlocks == []


def test_an_interrupted_wait_is_no_edge_any_more() -> None:
    if not hasattr(signal, "pthread_kill"):
        pytest.skip("no pthread_kill")
    tracer = LockTracer()
    one, two = made(tracer, "lock", "ab")
    main = threading.get_ident()
    taken, go_on = threading.Event(), threading.Event()

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def hold() -> None:
        with one:
            taken.set()
            until(lambda: waits_of(tracer) == ["a"], "the wait")
            signal.pthread_kill(main, signal.SIGUSR1)
            go_on.wait(DEADLINE)
            with two:
                pass

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        holder = Worker("holder", hold)
        assert taken.wait(DEADLINE)
        with pytest.raises(KeyboardInterrupt):
            one.acquire()
    finally:
        signal.signal(signal.SIGUSR1, before)
    with two:
        go_on.set()
        until(lambda: waits_of(tracer) == ["b"], "the holder's wait")
        # longer than the alarm would take
        threading.Event().wait(0.2)
    assert holder.finish() is None
    assert tracer.deadlocks == []


def test_a_known_semaphore_may_take_as_long_as_it_likes() -> None:
    tracer = LockTracer()
    lock = tracer.lock("a")
    lock.acquire()
    assert Worker("giver", lock.release).finish() is None
    lock.acquire()

    def hand_over() -> None:
        until(lambda: any(wait.until_ns is None for wait in tracer.history.waits), "the wait")
        threading.Event().wait(0.2)
        lock.release()

    giver = Worker("giver", hand_over)
    lock.acquire()
    assert giver.finish() is None
    assert tracer.deadlocks == []


@pytest.mark.parametrize("timed", ["both", "one"])
def test_timed_waits_are_no_deadlock(timed: str) -> None:
    tracer = LockTracer()
    one, two = made(tracer, "lock", "ab")
    meet = threading.Barrier(2)
    got: list[bool] = []

    def take(first: TracedLock, second: TracedLock, timeout: float) -> None:
        with first:
            meet.wait(DEADLINE)
            if timeout < 0:
                until(lambda: waits_of(tracer) == ["b"], "the timed wait")
            if second.acquire(timeout=timeout):
                got.append(True)
                second.release()
            else:
                got.append(False)

    workers = [
        Worker("x", lambda: take(one, two, 0.3)),
        Worker("y", lambda: take(two, one, -1 if timed == "one" else 0.3)),
    ]
    assert [worker.finish() for worker in workers] == [None, None]
    assert tracer.deadlocks == []
    assert len(got) == 2
    assert timed == "both" or True in got


def test_stop_switches_the_alarm_off() -> None:
    tracer = LockTracer()
    lock = tracer.lock("a")
    lock.acquire()
    tracer.stop()

    def hand_over() -> None:
        # longer than the alarm would take
        threading.Event().wait(0.2)
        lock.release()

    worker = Worker("giver", hand_over)
    assert lock.acquire()
    assert worker.finish() is None
    assert tracer.deadlocks == []
    lock.release()


def test_stop_reaches_a_thread_that_is_about_to_raise() -> None:
    tracer = LockTracer()
    lock = tracer.lock("a")
    lock.acquire()

    def stop() -> None:
        until(lambda: any(wait.until_ns is None for wait in tracer.history.waits), "the wait")
        tracer.stop()
        threading.Event().wait(0.2)
        lock.release()

    worker = Worker("stopper", stop)
    assert lock.acquire()
    assert worker.finish() is None
    assert tracer.deadlocks == []


def test_a_victim_that_lets_go_and_tries_again_gets_through() -> None:
    tracer = LockTracer()
    one, two = made(tracer, "rlock", "ab")
    meet = threading.Barrier(2)

    def insist(first: TracedLock, second: TracedLock) -> None:
        try:
            take_both(first, second, meet)
        except DeadlockDetected:
            with second, first:
                return

    workers = [Worker("x", lambda: insist(one, two)), Worker("y", lambda: insist(two, one))]
    assert [worker.finish() for worker in workers] == [None, None]
    assert len(tracer.deadlocks) == 1
