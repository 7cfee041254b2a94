"""Sleep sets leave out schedules, and no end of a program: held against full depth-first search.

One program for each kind of operation, with the others of its kind beside it;
test_explore_reference does the same with programs at random, and tests/flaws/test_sleep_sets.py
with kill routines.
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import ExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill.explore.run import Clock, Run
from pytest_gracekill.explore.simulating import on_one_core, simulated, without_garbage
from pytest_gracekill.explore.sleep_sets import SleepSets
from pytest_gracekill.explore.workers import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

#: Full depth-first search of a program has so many at most.
SCHEDULES = 3_000


def state() -> SimpleNamespace:
    """What the programs share; each writes down what it has seen in a list of its own."""
    lock = threading.Lock()
    return SimpleNamespace(
        lock=lock,
        other=threading.RLock(),
        condition=threading.Condition(lock),
        event=threading.Event(),
        semaphore=threading.BoundedSemaphore(1),
        barrier=threading.Barrier(2),
        queue=queue.Queue(1),
        told=0,
        thread=threading.Thread(target=lock.locked),
        seen={},
    )


def notes(shared: SimpleNamespace, what: object) -> None:
    shared.seen.setdefault(threading.current_thread().name, []).append(what)


def tries(shared: SimpleNamespace) -> None:
    taken = shared.lock.acquire(blocking=False)
    notes(shared, (taken, shared.lock.locked()))
    if taken:
        shared.lock.release()


def waits_a_second(shared: SimpleNamespace) -> None:
    taken = shared.lock.acquire(timeout=1)
    notes(shared, taken)
    if taken:
        shared.lock.release()


def keeps_for_a_second(shared: SimpleNamespace) -> None:
    with shared.lock:
        time.sleep(1)


def releases(shared: SimpleNamespace) -> None:
    """A lock that another one has taken, or nobody."""
    try:
        shared.lock.release()
    except RuntimeError as error:
        notes(shared, str(error))


def takes_both(shared: SimpleNamespace) -> None:
    with shared.lock, shared.other:
        pass


def takes_both_the_other_way(shared: SimpleNamespace) -> None:
    with shared.other, shared.other, shared.lock:
        pass


def is_notified(shared: SimpleNamespace) -> None:
    with shared.condition:
        notes(shared, shared.condition.wait())


def is_notified_in_time(shared: SimpleNamespace) -> None:
    with shared.condition:
        found = shared.condition.wait_for(lambda: shared.told, 1)
        notes(shared, found)


def notifies(shared: SimpleNamespace) -> None:
    with shared.condition:
        shared.told += 1
        shared.condition.notify()


def notifies_late(shared: SimpleNamespace) -> None:
    time.sleep(1)
    notifies(shared)


def sets(shared: SimpleNamespace) -> None:
    shared.event.set()
    shared.event.clear()


def sees(shared: SimpleNamespace) -> None:
    notes(shared, (shared.event.is_set(), shared.event.wait(1), shared.event.is_set()))


def awaits(shared: SimpleNamespace) -> None:
    shared.event.wait()
    notes(shared, "it came")


def has_the_semaphore(shared: SimpleNamespace) -> None:
    with shared.semaphore:
        notes(shared, shared.semaphore.acquire(blocking=False))


def gives_too_much(shared: SimpleNamespace) -> None:
    try:
        shared.semaphore.release()
    except ValueError as error:
        notes(shared, str(error))


def meets(shared: SimpleNamespace) -> None:
    try:
        notes(shared, shared.barrier.wait(1))
    except threading.BrokenBarrierError:
        notes(shared, "broken")


def breaks(shared: SimpleNamespace) -> None:
    notes(shared, (shared.barrier.n_waiting, shared.barrier.broken))
    shared.barrier.abort()


def resets(shared: SimpleNamespace) -> None:
    shared.barrier.reset()


def puts(shared: SimpleNamespace) -> None:
    shared.queue.put(1)
    try:
        shared.queue.put(2, timeout=1)
    except queue.Full:
        notes(shared, "full")


def gets(shared: SimpleNamespace) -> None:
    notes(shared, shared.queue.get())
    shared.queue.task_done()
    notes(shared, shared.queue.qsize())


def joins_the_queue(shared: SimpleNamespace) -> None:
    shared.queue.join()
    notes(shared, shared.queue.empty())


def starts_one(shared: SimpleNamespace) -> None:
    thread = threading.Thread(target=tries, args=(shared,))
    thread.start()
    notes(shared, thread.is_alive())
    with shared.lock:
        pass
    thread.join(1)
    notes(shared, thread.is_alive())


def starts_another(shared: SimpleNamespace) -> None:
    thread = threading.Thread(target=waits_a_second, args=(shared,))
    thread.start()
    thread.join()


def starts_the_shared_one(shared: SimpleNamespace) -> None:
    try:
        shared.thread.start()
    except RuntimeError as error:
        notes(shared, str(error))


def looks_at_the_shared_one(shared: SimpleNamespace) -> None:
    notes(shared, shared.thread.is_alive())
    try:
        notes(shared, shared.thread.join())
    except RuntimeError as error:
        notes(shared, str(error))


def reads_the_clock(shared: SimpleNamespace) -> None:
    before = time.monotonic()
    with shared.lock:
        pass
    notes(shared, round(time.monotonic() - before, 3))


def sleeps_twice(shared: SimpleNamespace) -> None:
    time.sleep(1)
    time.sleep(0)


PROGRAMS: tuple[tuple[Callable[[SimpleNamespace], object], ...], ...] = (
    (tries, keeps_for_a_second),
    (tries, tries, releases),
    (waits_a_second, keeps_for_a_second),
    (waits_a_second, releases, sleeps_twice),
    (takes_both, takes_both_the_other_way),
    (is_notified, notifies),
    (is_notified, is_notified, notifies),
    (is_notified_in_time, notifies_late),
    (is_notified_in_time, keeps_for_a_second),
    (sets, awaits),
    (sees, sets),
    (has_the_semaphore, has_the_semaphore),
    (has_the_semaphore, gives_too_much),
    (meets, meets),
    (meets, breaks),
    (meets, meets, resets),
    (puts, gets),
    (puts, gets, joins_the_queue),
    (starts_one,),
    (starts_another, keeps_for_a_second),
    (starts_the_shared_one, looks_at_the_shared_one),
    (starts_the_shared_one, starts_the_shared_one),
    (reads_the_clock, keeps_for_a_second),
    (reads_the_clock, sleeps_twice),
)


def ends(
    bodies: tuple[Callable[[SimpleNamespace], object], ...], clock: Clock, *, reduce: bool
) -> tuple[set[object], int]:
    """How a program ends, and in how many schedules that shows."""
    strategy = SleepSets(reduce=reduce)
    found: set[object] = set()
    schedules = 0
    with ExitStack() as stack:
        for context in (without_garbage(), on_one_core(), simulated()):
            stack.enter_context(context)
        pool = Pool()
        stack.callback(pool.close, 30.0)
        while strategy.begin() and schedules < SCHEDULES:
            run = Run(pool, strategy, clock=clock)
            made: list[SimpleNamespace] = []

            def prepare(run: Run = run, made: list[SimpleNamespace] = made) -> None:
                made.append(state())
                for place, body in enumerate(bodies):
                    run.add(f"{body.__name__}-{place}", lambda body=body: body(made[0]))  # type: ignore[misc]

            run.alone(prepare)
            run.go()
            strategy.finish(run)
            assert run.diverged is None, run.diverged
            if run.outcome != "pruned":
                schedules += 1
                found.add(end(run, made[0]))
    return found, schedules


def end(run: Run, shared: SimpleNamespace) -> object:
    waits = (
        (run.tasks[index].name, str(standing.what), standing.owner and standing.owner.name)
        for index, standing in run.standing.items()
    )
    return (
        run.outcome,
        frozenset(waits),
        tuple(sorted((who, str(what)) for who, what in shared.seen.items())),
        tuple(type(task.error) for task in run.tasks),
        run.now,
    )


@pytest.mark.parametrize("clock", ["jump", "explore"])
@pytest.mark.parametrize(
    "bodies", PROGRAMS, ids=lambda bodies: " ".join(body.__name__ for body in bodies)
)
def test_the_same_ends(
    bodies: tuple[Callable[[SimpleNamespace], object], ...], clock: Clock
) -> None:
    found, schedules = ends(bodies, clock, reduce=True)
    assert schedules < SCHEDULES
    full, all_schedules = ends(bodies, clock, reduce=False)
    assert full <= found
    if all_schedules < SCHEDULES:
        assert found == full
        assert schedules <= all_schedules
