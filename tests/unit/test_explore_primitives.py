"""What is simulated for a thread behaves as what it stands in for, and each call is one operation.

Each case is ordinary code that tells what it has seen. It runs twice, in a real thread with what
Python has, and as a task of a schedule, and has to see the same.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gracekill.errors import UsageError
from pytest_gracekill.explore.points import Following
from pytest_gracekill.explore.run import Clock, Run
from pytest_gracekill.explore.simulating import on_one_core, simulated, without_garbage
from pytest_gracekill.explore.workers import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: For what has to come: a real thread on a busy machine.
DEADLINE = 30.0


@contextmanager
def engine() -> Iterator[Pool]:
    with ExitStack() as stack:
        stack.enter_context(without_garbage())
        stack.enter_context(on_one_core())
        stack.enter_context(simulated())
        pool = Pool()
        stack.callback(pool.close, DEADLINE)
        yield pool


def schedule(*bodies: Callable[[], object], clock: Clock = "jump") -> Run:
    """The schedule in which everybody carries on as long as it can."""
    with engine() as pool:
        run = Run(pool, Following({}), clock=clock, recorded=True)

        def prepare() -> None:
            for body in bodies:
                run.add(body.__name__, body)

        run.alone(prepare)
        run.go()
    return run


def seen_in_a_schedule(case: Callable[[], object]) -> object:
    run = schedule(case)
    if run.tasks[0].error is not None:
        raise run.tasks[0].error
    assert run.outcome == "ended"
    return run.tasks[0].result


def seen_for_real(case: Callable[[], object]) -> object:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(case()), daemon=True)
    thread.start()
    thread.join(DEADLINE)
    assert found, "the case did not come to its end"
    return found[0]


def said(call: Callable[..., object], *arguments: object, **named: object) -> object:
    """What a call returns, or raises."""
    try:
        return call(*arguments, **named)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return type(error).__name__, str(error)


def in_thread(call: Callable[..., object], *arguments: object) -> object:
    """What a call returns in another thread."""
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(said(call, *arguments)))
    thread.start()
    thread.join()
    return found


def tries(lock: threading.Lock) -> bool:
    return lock.acquire(blocking=False)


def be_daemon(thread: threading.Thread) -> None:
    thread.daemon = True


def until(there: Callable[[], object]) -> None:
    while not there():
        time.sleep(0.001)


# -- cases


def locks() -> list[object]:
    lock = threading.Lock()
    return [
        said(lock.release),
        lock.acquire(),
        lock.locked(),
        lock.acquire(blocking=False),
        lock.acquire(timeout=0.01),
        lock.acquire(timeout=0),
        said(lock.acquire, blocking=False, timeout=1),
        said(lock.acquire, timeout=-2),
        said(lock.acquire, timeout=threading.TIMEOUT_MAX * 2),
        in_thread(tries, lock),
        in_thread(lock.release),
        lock.locked(),
        lock.__enter__(),
        said(lock.__exit__, None, None, None),
        said(lock.release),
    ]


def reentrant_locks() -> list[object]:
    lock = threading.RLock()
    return [
        said(lock.release),
        lock.acquire(),
        lock.acquire(blocking=False),
        lock.acquire(timeout=0.01),
        in_thread(tries, lock),
        in_thread(lock.release),
        said(lock.release),
        said(lock.release),
        in_thread(tries, lock),
    ]


def rlock_is_free_after_the_last_release() -> list[object]:
    lock = threading.RLock()
    with lock, lock:
        inside = in_thread(tries, lock)

    def take() -> bool:
        taken = lock.acquire(blocking=False)
        if taken:
            lock.release()
        return taken

    return [inside, in_thread(take)]


def conditions_alone() -> list[object]:
    condition = threading.Condition()
    found: list[object] = [
        said(condition.wait),
        said(condition.wait, 0.01),
        said(condition.notify),
        said(condition.notify_all),
    ]
    asked = []

    def never() -> bool:
        asked.append(1)
        return False

    with condition:
        found += [condition.wait(0.01), condition.wait(0), condition.wait(-1)]
        for timeout in (0, -1):
            found += [condition.wait_for(never, timeout), len(asked)]
            asked.clear()
        found += [condition.wait_for(lambda: "yes"), condition.wait_for(lambda: "yes", 0)]
        found += [said(condition.notify), said(condition.notify_all)]
    other = threading.Condition(threading.Lock())
    with other as held:
        found.append(held)
    return found


def conditions_are_notified_in_order() -> list[object]:
    condition = threading.Condition()
    waiting: list[int] = []
    woken: list[tuple[int, bool]] = []

    def wait(number: int) -> None:
        # an RLock is given back wholly
        with condition, condition:
            waiting.append(number)
            woken.append((number, condition.wait()))

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(4)]
    for number, thread in enumerate(threads, 1):
        thread.start()
        until(lambda number=number: len(waiting) == number)  # type: ignore[misc]
    found: list[object] = []
    with condition:
        condition.notify()
    threads[0].join()
    found.append(list(woken))
    with condition:
        condition.notify(2)
    threads[1].join()
    threads[2].join()
    found.append((sorted(woken), threads[3].is_alive()))
    with condition:
        condition.notify_all()
    threads[3].join()
    return [*found, sorted(woken)]


def condition_waits_for_a_predicate() -> list[object]:
    condition = threading.Condition()
    state = {"n": 0}

    def count() -> None:
        for _ in range(3):
            with condition:
                state["n"] += 1
                condition.notify_all()

    thread = threading.Thread(target=count)
    with condition:
        thread.start()
        got = condition.wait_for(lambda: state["n"] == 3 and "three")
    thread.join()
    return [got]


def events() -> list[object]:
    event = threading.Event()
    found = [event.is_set(), event.wait(0.01), event.wait(0), event.wait(-1)]
    thread = threading.Thread(target=event.set)
    thread.start()
    found += [event.wait(), event.wait(0.01), event.is_set()]
    thread.join()
    return [*found, said(event.set), said(event.clear), event.is_set(), event.wait(0)]


def semaphores() -> list[object]:
    semaphore = threading.Semaphore(2)
    return [
        said(threading.Semaphore, -1),
        semaphore.acquire(),
        semaphore.acquire(timeout=1),
        semaphore.acquire(blocking=False),
        semaphore.acquire(timeout=0.01),
        said(semaphore.acquire, blocking=False, timeout=1),
        said(semaphore.release, 0),
        said(semaphore.release, 2),
        semaphore.__enter__(),
        said(semaphore.__exit__, None, None, None),
        in_thread(semaphore.acquire),
        in_thread(semaphore.acquire),
        semaphore.acquire(blocking=False),
    ]


def bounded_semaphores() -> list[object]:
    semaphore = threading.BoundedSemaphore(2)
    return [
        said(semaphore.release),
        semaphore.acquire(),
        said(semaphore.release, 2),
        said(semaphore.release),
        said(semaphore.release),
    ]


def barriers() -> list[object]:
    done: list[int] = []
    barrier = threading.Barrier(1, action=lambda: done.append(1))
    found: list[object] = [barrier.wait(), barrier.wait(), len(done), barrier.parties]
    barrier = threading.Barrier(2, timeout=0.01)
    found += [said(barrier.wait), barrier.broken, said(barrier.wait), barrier.n_waiting]
    barrier.reset()
    found += [barrier.broken, said(barrier.abort), barrier.broken, said(barrier.wait)]

    def fail() -> None:
        raise LookupError("the action")

    return [*found, said(threading.Barrier(1, fail).wait)]


def barriers_of_threads() -> list[object]:
    barrier = threading.Barrier(3)
    places: list[object] = []

    def meet() -> None:
        places.extend(said(barrier.wait) for _ in range(2))

    threads = [threading.Thread(target=meet) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found: list[object] = [sorted(map(str, places))]
    for end in (barrier.abort, barrier.reset):
        barrier.reset()
        places.clear()
        thread = threading.Thread(target=lambda: places.append(said(barrier.wait)))
        thread.start()
        until(lambda: barrier.n_waiting == 1)
        end()
        thread.join()
        found += [list(places), barrier.broken]
    return found


def threads_of_all_kinds() -> list[object]:
    kept: list[object] = []

    class Kept(threading.Thread):
        def run(self) -> None:
            mine = threading.current_thread()
            kept.append((mine is self, mine.ident == threading.get_ident()))

    def take(*arguments: object, **named: object) -> None:
        kept.append((arguments, sorted(named.items()), threading.current_thread().name))

    one, other = Kept(), threading.Thread(target=take, args=(1, 2), kwargs={"a": 3}, name="other")
    found: list[object] = [said(one.join), one.is_alive(), one.ident]
    found.append(one.daemon == threading.current_thread().daemon)
    one.start()
    one.join()
    other.start()
    other.join()
    found += [
        said(one.start),
        one.is_alive(),
        said(one.join),
        said(one.join, 0),
        sorted(map(str, kept)),
    ]
    go = threading.Event()
    waits = threading.Thread(target=go.wait, daemon=True)
    found.append(waits.daemon)
    waits.daemon = False
    waits.start()
    found += [
        said(waits.join, 0.01),
        said(waits.join, 0),
        waits.is_alive(),
        said(be_daemon, waits),
    ]
    go.set()
    waits.join(DEADLINE)
    found += [waits.is_alive(), said(threading.current_thread().join)]
    return [*found, threading.Thread(target=take).name.partition(" ")[2], str(one)[:5]]


def timers() -> list[object]:
    fired: list[object] = []
    now = threading.Timer(0.01, fired.append, ("now",))
    never = threading.Timer(DEADLINE * 2, fired.append, ("never",))
    for timer in (now, never):
        timer.start()
    never.cancel()
    now.join()
    never.join()
    return [fired, never.is_alive(), never.finished.is_set()]


def queues() -> list[object]:
    one: queue.Queue[object] = queue.Queue(1)
    return [
        one.empty(),
        one.full(),
        said(one.get_nowait),
        said(one.get, timeout=0.01),
        said(one.get, timeout=-1),
        said(one.put, "a"),
        (one.qsize(), one.empty(), one.full()),
        said(one.put_nowait, "b"),
        said(one.put, "b", timeout=0.01),
        said(one.put, "b", timeout=-1),
        said(one.put, "b", block=False, timeout=-1),
        one.get(),
        said(one.task_done),
        said(one.task_done),
        said(one.join),
    ]


def queues_in_their_orders() -> list[object]:
    last: queue.Queue[int] = queue.LifoQueue()
    least: queue.Queue[int] = queue.PriorityQueue()
    simple: queue.SimpleQueue[int] = queue.SimpleQueue()
    found: list[object] = [simple.empty(), said(simple.get_nowait), said(simple.get, timeout=0.01)]
    for number in (2, 1, 3):
        last.put(number)
        least.put(number)
        simple.put(number)
    found += [last.qsize(), least.qsize(), simple.qsize()]
    found += [[each.get(timeout=1) for _ in range(3)] for each in (last, least, simple)]
    return found


def queues_between_threads() -> list[object]:
    work: queue.Queue[int | None] = queue.Queue(1)
    done: list[int] = []

    def consume() -> None:
        while (item := work.get()) is not None:
            done.append(item)
            work.task_done()

    thread = threading.Thread(target=consume)
    thread.start()
    for number in range(4):
        work.put(number)
    work.join()
    found: list[object] = [list(done)]
    work.put(None)
    thread.join()
    return found


def clocks() -> list[object]:
    found: list[object] = []
    for clock in (time.monotonic, time.time, time.perf_counter):
        before = clock()
        time.sleep(0.01)
        found += [type(before), clock() - before > 0.009]
    for clock_ns in (time.monotonic_ns, time.time_ns, time.perf_counter_ns):
        before_ns = clock_ns()
        time.sleep(0.01)
        found += [type(before_ns), clock_ns() - before_ns > 9_000_000]
    return [
        *found,
        said(time.sleep, 0),
        said(time.sleep, -1),
        *(said(time.sleep, bad)[0] for bad in ("1", None, math.nan, math.inf)),  # type: ignore[index]
    ]


CASES = (
    locks,
    reentrant_locks,
    rlock_is_free_after_the_last_release,
    conditions_alone,
    conditions_are_notified_in_order,
    condition_waits_for_a_predicate,
    events,
    semaphores,
    bounded_semaphores,
    barriers,
    barriers_of_threads,
    threads_of_all_kinds,
    timers,
    queues,
    queues_in_their_orders,
    queues_between_threads,
    clocks,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_simulated_one_is_as_the_real_one(case: Callable[[], object]) -> None:
    assert seen_in_a_schedule(case) == seen_for_real(case)


# -- each call is one operation, the same on every Python


def every_call() -> None:
    lock, rlock = threading.Lock(), threading.RLock()
    with lock:
        lock.acquire(blocking=False)
        lock.acquire(timeout=1)
        lock.locked()
    with rlock, rlock:
        pass
    condition, event = threading.Condition(), threading.Event()
    with condition:
        condition.wait(1)
        condition.wait_for(lambda: False, 1)
        condition.notify()
        condition.notify_all()
    event.is_set()
    event.wait(1)
    event.set()
    event.clear()
    for semaphore in (threading.Semaphore(), threading.BoundedSemaphore()):
        with semaphore:
            semaphore.acquire(timeout=1)
    barrier = threading.Barrier(1)
    barrier.wait()
    barrier.abort()
    barrier.reset()
    assert (barrier.broken, barrier.n_waiting) == (False, 0)
    thread, timer = threading.Thread(target=event.set), threading.Timer(1, event.clear)
    for each in (thread, timer):
        each.start()
        repr(each)
        each.is_alive()
        each.join(9)
        each.join()
    kinds: list[Any] = [queue.Queue, queue.LifoQueue, queue.PriorityQueue, queue.SimpleQueue]
    for kind in kinds:
        items = kind()
        items.put(1)
        items.put_nowait(2)
        items.get()
        items.get_nowait()
        items.empty()
        items.qsize()
    work: queue.Queue[int] = queue.Queue(1)
    work.full()
    work.put(1)
    work.task_done()
    work.join()
    time.sleep(1)
    time.sleep(0)
    time.monotonic()
    time.time_ns()


STEPS = """\
every_call: begins; acquires lock-1; tries lock-1; acquires lock-1; looks at lock-1; releases lock-1
acquires lock-2; releases lock-2
acquires lock-3; waits on condition; wakes up from condition; waits on condition
wakes up from condition; notifies condition; notifies condition; releases lock-3
looks at event; waits for event; sets event; clears event
acquires semaphore; acquires semaphore; releases semaphore
acquires boundedsemaphore; acquires boundedsemaphore; releases boundedsemaphore
comes to barrier; breaks barrier; resets barrier; looks at barrier; looks at barrier
starts Thread-1 (set); looks at Thread-1 (set)
Thread-1 (set): begins; sets event
every_call: joins Thread-1 (set); joins Thread-1 (set); starts Thread-2; looks at Thread-2
Thread-2: begins; waits for event; looks at event; clears event; sets event
every_call: joins Thread-2; joins Thread-2
puts into queue; puts into queue; gets from queue; gets from queue; looks at queue; looks at queue
puts into lifoqueue; puts into lifoqueue; gets from lifoqueue; gets from lifoqueue
looks at lifoqueue; looks at lifoqueue
puts into priorityqueue; puts into priorityqueue; gets from priorityqueue
gets from priorityqueue; looks at priorityqueue; looks at priorityqueue
puts into queue; puts into queue; gets from queue; gets from queue; looks at queue; looks at queue
looks at queue; puts into queue; has done one of queue; joins queue
sleeps 1 s; sleeps 0 s
"""


def recorded() -> list[str]:
    taken = []
    actor = ""
    for line in STEPS.splitlines():
        name, colon, rest = line.rpartition(": ")
        actor = name if colon else actor
        taken += [f"{actor} {step}" for step in rest.split("; ")]
    return taken


@pytest.mark.parametrize("clock", ["jump", "explore"])
def test_each_call_is_one_operation(clock: Clock) -> None:
    run = schedule(every_call, clock=clock)
    assert run.tasks[0].error is None
    assert run.outcome == "ended"
    taken = [f"{step.actor} {step.text}" for step in run.steps]
    if clock == "explore":
        # beside these: where time may pass before it is looked at, or a wait begins
        reads = "every_call reads the clock"
        assert taken.count(reads) == 2
        assert len([step for step in taken if "pauses before" in step]) == 8
        taken = [step for step in taken if step != reads and "pauses before" not in step]
    assert taken == recorded()


def test_a_notified_waiter_waits_for_the_lock() -> None:
    condition_of: list[threading.Condition] = []

    def waits() -> None:
        with condition_of[0]:
            condition_of[0].wait()

    def keeps() -> None:
        with condition_of[0]:
            condition_of[0].notify()
            threading.Event().wait()

    with engine() as pool:
        run = Run(pool, Following({}), clock="jump")

        def prepare() -> None:
            condition_of.append(threading.Condition())
            run.add("waits", waits)
            run.add("keeps", keeps)

        run.alone(prepare)
        run.go()
    assert run.outcome == "stuck"
    standing = run.standing[0]
    assert standing.lock is not None
    assert standing.owner is run.tasks[1]
    assert run.standing[1].lock is None


def test_nobody_waits_for_daemons() -> None:
    done: list[str] = []

    def starts() -> None:
        forever = threading.Event()
        threading.Thread(target=forever.wait, daemon=True).start()

        def every_second() -> None:
            while True:
                time.sleep(1)
                done.append("a second")

        threading.Thread(target=every_second, daemon=True).start()
        time.sleep(2.5)
        done.append("the end")

    run = schedule(starts)
    assert run.outcome == "ended"
    assert done == ["a second", "a second", "the end"]


def test_one_that_is_no_daemon_is_waited_for() -> None:
    def starts() -> None:
        threading.Thread(target=threading.Event().wait).start()

    assert schedule(starts).outcome == "stuck"


def test_names_are_those_of_the_schedule() -> None:
    def names() -> list[str]:
        mine = threading.current_thread()
        assert mine is threading.current_thread()
        return [mine.name, *(threading.Thread(target=names).name for _ in range(2))]

    for _ in range(2):
        assert seen_in_a_schedule(names) == ["names", "Thread-1 (names)", "Thread-2 (names)"]


@pytest.mark.parametrize("used", ["start", "join"])
def test_a_thread_from_outside_is_an_error(used: str) -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()

    def use() -> object:
        return getattr(thread, used)()  # looked up now

    try:
        with pytest.raises((RuntimeError, UsageError), match=r"started (once|outside)"):
            seen_in_a_schedule(use)
    finally:
        go.set()
        thread.join(DEADLINE)
