"""Programs that a search has to judge right, searches that are cut; and nothing is left behind.

The three of the beginning have fooled other engines: two threads that wake at the same instant, a
clock in floats, and a thread that blocks for real.
"""

from __future__ import annotations

import gc
import os
import queue
import re
import signal
import sys
import threading
import time
from pathlib import Path
from time import sleep as bound_sleep
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gracekill.errors import StartError, UsageError
from pytest_gracekill.explorations import Asking, explore_threads
from pytest_gracekill.explore import run, search, standstill
from pytest_gracekill.settings import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.explore.findings import Findings

HERE = sys.modules[__name__]
#: For what has to come, on a busy machine.
DEADLINE = 30.0
#: Longer than any search here takes: what is short must not be cut on a busy machine.
AMPLE = 60.0


def explored(
    setup: Callable[[], object],
    *bodies: Callable[[Any], object],
    check: Callable[[Any], object] | None = None,
    replay: str | None = None,
    **values: object,
) -> Findings:
    given = Value(value=replay, source="--gracekill-replay")
    asking = Asking(test="test_it", number=1, replay=given, deadline=None)
    return explore_threads(asking, setup, bodies, check, {"seconds": AMPLE, **values})


def two_locks() -> SimpleNamespace:
    return SimpleNamespace(a=threading.Lock(), b=threading.Lock(), n=0)


# -- the three programs


def rests_between(state: SimpleNamespace) -> None:
    with state.a, state.b:
        pass
    time.sleep(10)
    with state.b, state.a:
        pass


def sleeps_10(state: SimpleNamespace) -> None:
    time.sleep(10)
    with state.a, state.b:
        pass


def sleeps_7(state: SimpleNamespace) -> None:
    time.sleep(7)
    with state.b, state.a:
        pass


def test_two_that_wake_at_the_same_instant_meet() -> None:
    found = explored(two_locks, rests_between, sleeps_10, clock="jump")
    assert found.status == "failed"
    assert found.failure is not None
    assert found.failure.verdicts["deadlock"].word == "DEADLOCK"
    assert found.steps[-1].at_ns - run.START_NS == 10_000_000_000


def test_two_that_wake_apart_meet_where_time_may_pass() -> None:
    jumped = explored(two_locks, sleeps_10, sleeps_7, clock="jump")
    assert jumped.status == "exhausted"
    assert explored(two_locks, sleeps_10, sleeps_7, clock="explore").status == "failed"
    both = explored(two_locks, sleeps_10, sleeps_7)
    assert (both.status, both.failures[0].clock) == ("failed", "explore")


def test_a_loop_on_the_clock_ends_after_75_steps() -> None:
    def polls(state: SimpleNamespace) -> None:
        start = time.monotonic()
        while time.monotonic() < start + 15:
            time.sleep(0.2)
            state.n += 1

    def all_75(state: SimpleNamespace) -> None:
        assert state.n == 75

    for clock in ("jump", "explore"):
        assert explored(two_locks, polls, check=all_75, clock=clock).status == "exhausted"


HIDDEN = threading.Lock()


def takes_a_hidden_lock(state: object) -> None:
    lock = vars(HERE)["HIDDEN"]
    lock.acquire()  # here
    time.sleep(1)
    lock.release()


def test_a_thread_that_blocks_for_real_is_named_with_its_line() -> None:
    began = time.monotonic()
    with pytest.raises(StartError) as raised:
        explored(two_locks, takes_a_hidden_lock, takes_a_hidden_lock)
    assert time.monotonic() - began < 10 * standstill.BLOCKED
    text = Path(__file__).read_text(encoding="utf-8").splitlines()
    line = next(number for number, code in enumerate(text, 1) if code.endswith("# here"))
    assert "takes_a_hidden_lock-2" in str(raised.value)
    assert f"test_explore_programs.py:{line} in takes_a_hidden_lock" in str(raised.value)
    assert "locks=" in str(raised.value)
    HIDDEN.release()  # the other one's thread ends with it


def test_one_that_computes_is_named_and_comes_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standstill, "COMPUTES", 0.2)
    before = set(threading.enumerate())

    def computes(state: object) -> None:
        n = 0
        while True:
            n += 1

    with pytest.raises(StartError, match=r"computes does not come back at .* it computes"):
        explored(two_locks, computes)
    gone(before)


def test_a_thread_that_only_has_no_core_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is runnable for longer than it takes to be taken for blocked, and computes less."""
    monkeypatch.setattr(standstill, "BLOCKED", 0.0)
    worked: list[int] = []

    def works(state: SimpleNamespace) -> None:
        if not worked:
            worked.append(1)
            keeps_busy(5 * run._LOOK)

    assert explored(two_locks, works, clock="jump").status == "exhausted"


def keeps_busy(seconds: float) -> None:
    """For so many seconds that are real: nobody replaces this clock."""
    until = time.clock_gettime(time.CLOCK_MONOTONIC) + seconds
    while time.clock_gettime(time.CLOCK_MONOTONIC) < until:
        pass


UNNAMED = threading.Lock()
NAMED_QUEUE: queue.Queue[int] = queue.Queue()
NAMED_QUEUE.put(1)


def takes_the_unnamed(state: object) -> None:
    with UNNAMED:
        pass


def test_a_lock_that_was_not_named_is_an_error_that_names_it() -> None:
    with pytest.raises(
        UsageError, match=r"test_explore_programs\.UNNAMED.*locks=\[\(object"
    ) as raised:
        explored(two_locks, takes_the_unnamed)
    assert raised.value.source == "the call"
    found = explored(two_locks, takes_the_unnamed, takes_the_unnamed, locks=[(HERE, "UNNAMED")])
    assert found.status == "exhausted"
    assert type(UNNAMED) is type(threading.Lock())


def test_a_named_queue_begins_each_schedule_as_it_was() -> None:
    def takes(state: SimpleNamespace) -> None:
        item = NAMED_QUEUE.get()
        state.n += item
        NAMED_QUEUE.put(2)

    def sees(state: SimpleNamespace) -> None:
        assert state.n == 1 + 2

    found = explored(two_locks, takes, takes, check=sees, locks=[(HERE, "NAMED_QUEUE")])
    assert found.status == "exhausted"
    assert found.schedules > 2
    assert list(NAMED_QUEUE.queue) == [1]


# -- bad input


def nothing(state: object) -> None:
    """Ends at once."""


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"clock": "wall"}, "clock='wall'"),
        ({"preemptions": -1}, "preemptions=-1"),
        ({"preemptions": True}, "preemptions=True"),
        ({"seconds": 0}, "seconds=0"),
        ({"seconds": "1"}, "seconds='1'"),
        ({"seconds": float("nan")}, "seconds=nan"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"locks": [two_locks]}, "a list of pairs"),
        ({"locks": {"a": 1}}, "a list of pairs"),
        ({"locks": [(HERE, "absent")]}, "no such attribute"),
        ({"locks": [(HERE, "DEADLINE")]}, "it is a builtins.float; a Lock, RLock, Condition"),
        ({"preemption": 1}, "preemption"),
        ({"replay": "1.1j"}, "'1.1j' is no token"),
        ({"replay": "2.1j.00000000."}, "format 2"),
        ({"replay": "1.1j.00000000.0-1"}, "of another scenario"),
    ],
    # no place in memory, which is another one in each worker of xdist
    ids=lambda value: value if isinstance(value, str) else "-",
)
def test_bad_input_is_told_with_its_source(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as raised:
        explored(two_locks, nothing, **values)
    assert said in str(raised.value)
    expected = "--gracekill-replay" if "replay" in values else "the call"
    assert raised.value.source == expected


@pytest.mark.parametrize(
    ("setup", "bodies", "said"),
    [
        (None, (nothing,), "setup=None"),
        (two_locks, (), "no body"),
        (two_locks, (lambda: None,), "cannot be called with the state"),
        (two_locks, (nothing, 3), "3 cannot be called with the state"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-",
)
def test_bad_bodies_are_told(setup: Any, bodies: tuple[Any, ...], said: str) -> None:
    with pytest.raises(UsageError) as raised:
        explored(setup, *bodies)
    assert said in str(raised.value)


# -- what is not the same again, and what is cut


def test_a_program_that_does_something_else_is_no_pass() -> None:
    schedules: list[int] = []

    def setup() -> SimpleNamespace:
        schedules.append(1)
        return two_locks()

    def other_locks(state: SimpleNamespace) -> None:
        if len(schedules) > 1:
            time.sleep(1)
        with state.a:
            pass

    def fewer(state: SimpleNamespace) -> None:
        if len(schedules) == 1:
            with state.a:
                pass

    for body in (other_locks, fewer):
        schedules.clear()
        found = explored(setup, body, body)
        assert found.status == "incomplete"
        assert "not deterministic" in found.limit
        with pytest.raises(AssertionError, match="INCOMPLETE"):
            found.check()


def many(state: SimpleNamespace) -> None:
    for _ in range(20):
        with state.a:
            pass
        with state.b:
            pass


def test_a_search_that_is_cut_by_its_time_is_no_pass() -> None:
    found = explored(two_locks, many, many, many, seconds=0.3, preemptions=None)
    assert (found.status, found.failures) == ("incomplete", ())
    # on a machine that is busy enough it is its wall time
    told = r"its (0\.3 s were over \(CPU time\)|1\.5 s were over \(wall time; .*\))"
    assert re.match(told, found.limit)
    with pytest.raises(AssertionError, match=r"its (0\.3|1\.5) s were over"):
        found.check()


def test_a_schedule_that_goes_in_circles_is_no_pass() -> None:
    def spins(state: SimpleNamespace) -> None:
        while not state.a.locked():
            time.sleep(0)

    found = explored(two_locks, spins)
    assert found.status == "incomplete"
    assert f"{run.LONGEST} operations: spins goes in circles" in found.limit


def test_one_that_never_ends_is_found() -> None:
    def ticks(state: object) -> None:
        while True:
            time.sleep(100)

    found = explored(two_locks, ticks, clock="jump")
    assert found.failure is not None
    assert found.failure.verdicts["promptness"].word == "HUNG"


# -- what threads share beside their locks


def test_every_order_is_also_that_of_what_has_no_lock_in_common(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The flag is under no lock: sleep sets do not see that the order matters."""

    def setup() -> SimpleNamespace:
        state = two_locks()
        state.flag = False
        state.seen = []
        return state

    def toggles(state: SimpleNamespace) -> None:
        for flag in (True, False):
            with state.a:
                state.flag = flag

    def looks(state: SimpleNamespace) -> None:
        for _ in range(2):
            with state.b:
                state.seen.append(state.flag)

    def never(state: SimpleNamespace) -> bool:
        return bool(state.seen != [True, False])

    monkeypatch.setattr(search, "_SCOUTS", 0)
    found = explored(setup, toggles, looks, check=never, clock="jump", preemptions=0)
    assert found.status == "failed"


# -- nothing is left behind


def gone(before: set[threading.Thread]) -> None:
    """Every thread ends that has come since."""
    deadline = time.monotonic() + DEADLINE
    for thread in set(threading.enumerate()) - before:
        thread.join(max(deadline - time.monotonic(), 0.0))
        assert not thread.is_alive(), thread


def everything() -> dict[str, object]:
    """Whatever an exploration replaces, and puts back."""
    return {
        "affinity": os.sched_getaffinity(0),
        "collector": (gc.isenabled(), gc.get_freeze_count()),
        "names": (
            *(threading.Lock, threading.RLock, threading.current_thread, queue.SimpleQueue),
            *(time.sleep, time.monotonic, time.time, time.perf_counter, os.kill, os.waitpid),
            *(os.pidfd_open, signal.pidfd_send_signal, bound_sleep),
        ),
        "methods": [
            vars(kind)[name]
            for kind, name in (
                (threading.Thread, "__init__"),
                (threading.Thread, "start"),
                (threading.Condition, "wait"),
                (threading.Event, "set"),
                (threading.Semaphore, "acquire"),
                (threading.Barrier, "n_waiting"),
                (queue.Queue, "put"),
            )
        ],
        "named": UNNAMED,
    }


@pytest.fixture
def left_as_it_was() -> Iterator[None]:
    before, threads = everything(), set(threading.enumerate())
    yield
    assert everything() == before
    gone(threads)


@pytest.mark.usefixtures("left_as_it_was")
def test_nothing_is_left_after_a_failure() -> None:
    def refuses_to_end(state: SimpleNamespace) -> None:
        for _ in range(50):
            try:
                state.a.acquire()
            except BaseException:  # noqa: BLE001 - that is the point
                continue

    assert explored(two_locks, rests_between, sleeps_10, refuses_to_end).status == "failed"


@pytest.mark.usefixtures("left_as_it_was")
def test_nothing_is_left_after_errors() -> None:
    schedules: list[int] = []

    def setup() -> SimpleNamespace:
        schedules.append(1)
        if len(schedules) == 2:
            raise LookupError("the second time")
        return two_locks()

    with pytest.raises(LookupError, match="the second time"):
        explored(setup, rests_between, rests_between, locks=[(HERE, "UNNAMED")])

    def raises(state: object) -> None:
        raise ValueError("a body")

    found = explored(two_locks, raises)
    assert found.failure is not None
    assert found.failure.verdicts["outcome"].word == "RAISED"


@pytest.mark.usefixtures("left_as_it_was")
def test_nothing_is_left_after_an_interrupt() -> None:
    main = threading.get_ident()
    asked: list[bool] = []

    def beside() -> None:
        deadline = time.monotonic() + DEADLINE
        while not asked and time.monotonic() < deadline:
            time.sleep(0.001)
        signal.pthread_kill(main, signal.SIGUSR1)

    def interrupts(state: SimpleNamespace) -> None:
        with state.a:
            asked.append(True)
            # it comes in the midst of this operation
            keeps_busy(2 * run._LOOK)
            for _ in range(1000):
                time.sleep(1)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupted)
    thread = threading.Thread(target=beside)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            explored(two_locks, interrupts, many, many, seconds=AMPLE)
    finally:
        asked.append(True)
        thread.join(DEADLINE)
        signal.signal(signal.SIGUSR1, before)


def test_other_threads_have_the_real_thing_meanwhile() -> None:
    seen: list[object] = []
    stop, real_sleep = threading.Event(), time.sleep

    def beside() -> None:
        while not stop.is_set():
            before = time.monotonic()
            lock = threading.Lock()
            event = threading.Event()
            event.set()
            time.sleep(0.01)
            seen.append((type(lock), event.wait(0), 0 < time.monotonic() - before < DEADLINE))

    thread = threading.Thread(target=beside)

    def replaced(state: object) -> None:
        assert time.sleep is not real_sleep
        if len(seen) < 2:
            keeps_busy(0.3)

    thread.start()
    try:
        assert explored(two_locks, replaced, clock="jump").status == "exhausted"
    finally:
        stop.set()
        thread.join(DEADLINE)
    assert len(seen) > 1
    assert set(seen) == {(type(threading.Lock()), True, True)}


def test_names_bound_by_from_import_are_replaced() -> None:
    def sleeps(state: SimpleNamespace) -> None:
        bound_sleep(3_000)
        state.n += 1

    began = time.monotonic()
    assert explored(two_locks, sleeps, check=lambda state: state.n == 1).status == "exhausted"
    assert time.monotonic() - began < AMPLE
    assert bound_sleep is time.sleep
