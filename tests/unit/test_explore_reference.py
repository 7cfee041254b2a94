"""The engine against a model: random programs, and every schedule of each of them.

A program is data: what each thread does with locks, conditions, an event and the clock. The engine
runs it in real threads; the reference below is a small interpreter of the same data, which shares
no code with the engine and walks through all the states that there are. Both have to come to the
same ends: the same deadlocks, each with who waits for what, and the same final states.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import pytest
from hypothesis import HealthCheck, example, given, reject, settings
from hypothesis import strategies as st

from pytest_gracekill.explore.run import Clock, Run
from pytest_gracekill.explore.simulating import on_one_core, simulated, without_garbage
from pytest_gracekill.explore.sleep_sets import SleepSets
from pytest_gracekill.explore.workers import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The soak asks for more, and for others.
SOAK = "EXPLORED_PROGRAMS" in os.environ
PROGRAMS = int(os.environ.get("EXPLORED_PROGRAMS", "500"))
#: A program with more states, or schedules that are needed, is none for this test.
STATES = 400
SCHEDULES = 120
#: Full depth-first search is for those with so few ways through the model, and schedules.
WAYS_IN_FULL = 100
SCHEDULES_IN_FULL = 400
CLOCKS: tuple[Clock, ...] = ("jump", "explore")

#: What a thread does, one thing after the other; times are tenths of a second, None is for ever:
#: "with" LOCK INNER takes a lock, does the inner things, gives it back; "within" LOCK TIME INNER
#: tries for so long (0: at once or not), and does as much if it has got it; "sleep" TIME; "wait"
#: LOCK TIME, "notify" LOCK, "notify all" LOCK on the condition of a lock that it holds; "set",
#: "clear", "await" TIME the event; "mark" LOCK adds itself to what that lock guards.
Thing: TypeAlias = "tuple[Any, ...]"
Thread: TypeAlias = "tuple[Thing, ...]"
Program: TypeAlias = "tuple[Thread, ...]"

# How it ended: what was marked, what each call that could fail said, and who waits for what.
End: TypeAlias = "tuple[object, object, frozenset[tuple[int, str]]]"

LOCKS = 3


# -- random programs


@st.composite
def things(draw: st.DrawFn, held: tuple[int, ...], budget: int) -> Thread:
    """A few things in a row, with some of the locks held; ``budget``: how many, inner ones too."""
    made: list[Thing] = []
    while budget > 0:
        kinds = ["with", "with", "within", "sleep", "event"]
        if held:
            kinds += ["wait", "notify", "mark", "mark"]
        kind = draw(st.sampled_from(kinds))
        budget -= 1
        if kind in ("with", "within"):
            lock = draw(st.integers(0, LOCKS - 1))
            inside = draw(st.integers(0, budget))
            # a lock that is held is taken again now and then: it is not reentrant
            inner = draw(things((*held, lock), inside))
            budget -= inside
            if kind == "with":
                made.append(("with", lock, inner))
            else:
                made.append(("within", lock, draw(st.sampled_from((0, 1, 2, 3))), inner))
        elif kind == "sleep":
            made.append(("sleep", draw(st.sampled_from((1, 2, 3)))))
        elif kind == "event":
            made.append(
                draw(st.sampled_from((("set",), ("clear",), ("await", None), ("await", 2))))
            )
        elif kind == "wait":
            timeout = draw(st.sampled_from((None, None, 1, 2)))
            made.append(("wait", draw(st.sampled_from(held)), timeout))
        elif kind == "notify":
            how = draw(st.sampled_from(("notify", "notify all")))
            made.append((how, draw(st.sampled_from(held))))
        else:
            made.append(("mark", draw(st.sampled_from(held))))
        if draw(st.integers(0, 2)) == 0:
            break
    return tuple(made)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    count = draw(st.sampled_from((2, 2, 2, 3, 3, 4)))
    each = {2: 5, 3: 3, 4: 2}[count]
    return tuple(draw(things((), each)) for _ in range(count))


# -- the reference: an interpreter of its own, over states that can be compared


def flat(thread: Thread) -> tuple[Thing, ...]:
    """The same as a list of single steps; what takes time begins in a step of its own."""
    steps: list[Thing] = []
    for thing in thread:
        match thing:
            case ("with", lock, inner):
                steps += [("take", lock), *flat(inner), ("give", lock)]
            case ("within", lock, 0, inner):
                inside = flat(inner)
                steps += [("try", lock, len(inside) + 1), *inside, ("give", lock)]
            case ("within", lock, tenths, inner):
                inside = flat(inner)
                steps += [("until", tenths), ("take by", lock, len(inside) + 1)]
                steps += [*inside, ("give", lock)]
            case ("sleep", tenths):
                steps += [("until", tenths), ("asleep",)]
            case ("wait", lock, None):
                steps += [("begin", lock), ("notified", lock), ("retake", lock)]
            case ("wait", lock, tenths):
                steps += [("begin by", lock, tenths), ("notified by", lock), ("retake", lock)]
            case ("await", None):
                steps.append(("seen",))
            case ("await", tenths):
                steps += [("until", tenths), ("seen by",)]
            case _:
                steps.append(thing)
    return tuple(steps)


class State(NamedTuple):
    """Everything that the future depends on.

    ``queues``: who waits on each condition, in order. ``told``: who has been notified since.
    ``heard``: who has woken up by that, and not by the time.
    """

    at: tuple[int, ...]
    owners: tuple[int | None, ...] = (None,) * LOCKS
    queues: tuple[tuple[int, ...], ...] = ((),) * LOCKS
    told: frozenset[int] = frozenset()
    heard: frozenset[int] = frozenset()
    flag: bool = False
    now: int = 0
    until: tuple[int | None, ...] = ()
    marks: tuple[tuple[int, ...], ...] = ((),) * LOCKS
    said: tuple[tuple[bool, ...], ...] = ()


class TooLargeError(Exception):
    """A program with too many states for this test."""


class Reference:
    """Every end of a program. ``clock``: whether time may pass beside threads that could go on."""

    def __init__(self, program: Program, clock: Clock) -> None:
        self.code = tuple(flat(thread) for thread in program)
        self.clock = clock
        self.known: dict[State, list[State]] = {}
        count = len(self.code)
        self.first = State(at=(0,) * count, until=(None,) * count, said=((),) * count)

    def ends(self) -> frozenset[End]:
        todo = [self.first]
        while todo:
            state = todo.pop()
            if state not in self.known:
                if len(self.known) >= STATES:
                    raise TooLargeError
                self.known[state] = self.following(state)
                todo += self.known[state]
        return frozenset(
            (state.marks, state.said, self.stuck(state))
            for state, following in self.known.items()
            if not following
        )

    def ways(self) -> int:
        """In how many ways the ends are come to: about as many schedules are there in full."""
        counted: dict[State, int] = {}

        def count(state: State) -> int:
            if state not in counted:
                counted[state] = sum(map(count, self.known[state])) or 1
            return counted[state]

        return count(self.first)

    def following(self, state: State) -> list[State]:
        found = []
        for who, code in enumerate(self.code):
            if state.at[who] < len(code):
                done = self.step(state, who, code[state.at[who]])
                if done is not None:
                    found.append(done)
        if not found or self.clock == "explore":
            later = [at for at in state.until if at is not None and at > state.now]
            if later:
                found.append(state._replace(now=min(later)))
        return found

    def step(self, state: State, who: int, step: Thing) -> State | None:  # noqa: C901, PLR0911, PLR0912 - one case for each
        """What comes of it when a thread does its next step; None when it cannot now."""
        due = state.until[who]
        late = due is not None and due <= state.now
        match step:
            case ("take", lock):
                return None if state.owners[lock] is not None else owned(state, who, lock)
            case ("give", lock):
                return goes_on(state._replace(owners=put(state.owners, lock, None)), who)
            case ("try", lock, length):
                if state.owners[lock] is None:
                    return says(owned(state, who, lock), who, word=True)
                return says(goes_on(state, who, 1 + length), who, word=False)
            case ("until", tenths):
                until = put(state.until, who, state.now + tenths)
                return goes_on(state._replace(until=until), who)
            case ("take by", lock, length):
                if state.owners[lock] is None:
                    return says(owned(timeless(state, who), who, lock), who, word=True)
                if late:
                    return says(goes_on(timeless(state, who), who, 1 + length), who, word=False)
                return None
            case ("asleep",):
                return goes_on(timeless(state, who), who) if late else None
            case ("begin", lock) | ("begin by", lock, _):
                begun = state._replace(
                    owners=put(state.owners, lock, None),
                    queues=put(state.queues, lock, (*state.queues[lock], who)),
                )
                if step[0] == "begin by":
                    begun = begun._replace(until=put(begun.until, who, state.now + step[2]))
                return goes_on(begun, who)
            case ("notified", lock) | ("notified by", lock):
                if who in state.told:
                    heard = state.heard | {who}
                    told = timeless(state, who)._replace(told=state.told - {who}, heard=heard)
                    return goes_on(told, who)
                if late:
                    queue = tuple(one for one in state.queues[lock] if one != who)
                    gone = timeless(state, who)._replace(queues=put(state.queues, lock, queue))
                    return goes_on(gone, who)
                return None
            case ("retake", lock):
                if state.owners[lock] is not None:
                    return None
                back = owned(state, who, lock)._replace(heard=state.heard - {who})
                return says(back, who, word=who in state.heard)
            case ("notify", lock) | ("notify all", lock):
                count = 1 if step[0] == "notify" else len(state.queues[lock])
                queue = state.queues[lock]
                queues = put(state.queues, lock, queue[count:])
                told_now = state.told | set(queue[:count])
                return goes_on(state._replace(queues=queues, told=told_now), who)
            case ("set",) | ("clear",):
                return goes_on(state._replace(flag=step[0] == "set"), who)
            case ("seen",):
                return says(goes_on(state, who), who, word=True) if state.flag else None
            case ("seen by",):
                if state.flag or late:
                    return says(goes_on(timeless(state, who), who), who, word=state.flag)
                return None
            case ("mark", lock):
                marks = put(state.marks, lock, (*state.marks[lock], who))
                return goes_on(state._replace(marks=marks), who)
        raise AssertionError(step)

    def stuck(self, state: State) -> frozenset[tuple[int, str]]:
        waits = set()
        for who, code in enumerate(self.code):
            if state.at[who] < len(code):
                match code[state.at[who]]:
                    case ("take", lock) | ("retake", lock):
                        waits.add((who, f"lock {lock}"))
                    case ("notified", lock):
                        waits.add((who, f"condition {lock}"))
                    case ("seen",):
                        waits.add((who, "event"))
                    case other:
                        raise AssertionError(f"nobody can be stuck in {other}")
        return frozenset(waits)


def put(values: tuple[Any, ...], at: int, value: object) -> tuple[Any, ...]:
    return (*values[:at], value, *values[at + 1 :])


def goes_on(state: State, who: int, by: int = 1) -> State:
    return state._replace(at=put(state.at, who, state.at[who] + by))


def owned(state: State, who: int, lock: int) -> State:
    return goes_on(state._replace(owners=put(state.owners, lock, who)), who)


def timeless(state: State, who: int) -> State:
    return state._replace(until=put(state.until, who, None))


def says(state: State, who: int, *, word: bool) -> State:
    return state._replace(said=put(state.said, who, (*state.said[who], word)))


# -- the engine


class Stage:
    """What the threads of a program share, made anew for each schedule."""

    def __init__(self, count: int) -> None:
        self.locks = [threading.Lock() for _ in range(LOCKS)]
        self.conditions = [threading.Condition(lock) for lock in self.locks]
        self.event = threading.Event()
        self.marks: list[list[int]] = [[] for _ in range(LOCKS)]
        self.said: list[list[bool]] = [[] for _ in range(count)]
        self.names = {id(lock): f"lock {place}" for place, lock in enumerate(self.locks)}

    def do(self, who: int, thread: Thread) -> None:  # noqa: C901 - one case for each
        said = self.said[who].append
        for thing in thread:
            match thing:
                case ("with", lock, inner):
                    with self.locks[lock]:
                        self.do(who, inner)
                case ("within", lock, tenths, inner):
                    taken = (
                        self.locks[lock].acquire(timeout=tenths / 10)
                        if tenths
                        else self.locks[lock].acquire(blocking=False)
                    )
                    said(taken)
                    if taken:
                        self.do(who, inner)
                        self.locks[lock].release()
                case ("sleep", tenths):
                    time.sleep(tenths / 10)
                case ("wait", lock, tenths):
                    said(self.conditions[lock].wait(None if tenths is None else tenths / 10))
                case ("notify", lock):
                    self.conditions[lock].notify()
                case ("notify all", lock):
                    self.conditions[lock].notify_all()
                case ("set",):
                    self.event.set()
                case ("clear",):
                    self.event.clear()
                case ("await", tenths):
                    said(self.event.wait(None if tenths is None else tenths / 10))
                case ("mark", lock):
                    self.marks[lock].append(who)

    def end(self, run: Run) -> End:
        waits = set()
        for index, standing in run.standing.items():
            if standing.lock is not None:
                what = self.names[id(standing.lock)]
            else:
                what = self.name_of(standing.awaits)
            waits.add((index, what))
        return (
            tuple(tuple(marks) for marks in self.marks),
            tuple(tuple(said) for said in self.said),
            frozenset(waits),
        )

    def name_of(self, awaited: object) -> str:
        for place, condition in enumerate(self.conditions):
            if vars(condition).get("_gracekill_state") is awaited:
                return f"condition {place}"
        assert vars(self.event)["_gracekill_state"] is awaited
        return "event"


class Engine:
    """Runs programs in every schedule, and says how they end."""

    def __init__(self) -> None:
        self.pool = Pool()

    def ends(self, program: Program, clock: Clock, *, reduce: bool, at_most: int) -> set[End]:
        strategy = SleepSets(reduce=reduce)
        ends = set()
        schedules = 0
        while strategy.begin():
            schedules += 1
            if schedules > at_most:
                raise TooLargeError
            run = Run(self.pool, strategy, clock=clock)
            stages = [run.alone(lambda run=run: self.prepare(run, program))]  # type: ignore[misc]
            run.go()
            strategy.finish(run)
            if schedules % 50 == 0:
                gc.collect(0)
            assert run.diverged is None, run.diverged
            errors = [task.error for task in run.tasks if task.error is not None]
            assert not errors, errors
            if run.outcome != "pruned":
                assert run.outcome in ("ended", "stuck")
                stage = stages[0]
                assert isinstance(stage, Stage)
                ends.add(stage.end(run))
        return ends

    @staticmethod
    def prepare(run: Run, program: Program) -> Stage:
        stage = Stage(len(program))
        for who, thread in enumerate(program):
            run.add(f"thread-{who}", lambda who=who, thread=thread: stage.do(who, thread))  # type: ignore[misc]
        return stage


@contextmanager
def engine() -> Iterator[Engine]:
    with ExitStack() as stack:
        stack.enter_context(without_garbage())
        stack.enter_context(on_one_core())
        stack.enter_context(simulated())
        made = Engine()
        stack.callback(made.pool.close, 2.0)
        yield made


# -- both agree


def compare(made: Engine, program: Program, compared: Counter[str]) -> None:
    """See whether both agree; a program that is too large is another one's business."""
    references = [Reference(program, clock) for clock in CLOCKS]
    told = []
    try:
        for reference in references:
            expected = reference.ends()
            clock = reference.clock
            found = made.ends(program, clock, reduce=True, at_most=SCHEDULES)
            assert found == expected, f"with sleep sets, clock {clock}"
            deadlock = any(end[2] for end in expected)
            told.append(f"{'deadlock' if deadlock else 'no deadlock'}, {clock}")
    except TooLargeError:
        reject()
    for reference in references:
        if reference.ways() <= WAYS_IN_FULL:
            clock = reference.clock
            try:
                found = made.ends(program, clock, reduce=False, at_most=SCHEDULES_IN_FULL)
            except TooLargeError:
                continue
            assert found == reference.ends(), f"in full, clock {clock}"
            told.append(f"in full, {clock}")
    compared.update(["programs", *told])


A, B = 0, 1
#: A deadlock that needs both to wake at the same instant, and one that needs time to pass beside.
SAME_INSTANT: Program = (
    (("with", A, (("with", B, ()),)), ("sleep", 3), ("with", B, (("with", A, ()),))),
    (("sleep", 3), ("with", A, (("with", B, ()),))),
)
APART: Program = (
    (("sleep", 3), ("with", A, (("with", B, ()),))),
    (("sleep", 2), ("with", B, (("with", A, ()),))),
)
#: Who is no longer there is not notified.
GONE: Program = (
    (("with", A, (("wait", A, 1),)),),
    (("with", A, (("wait", A, None),)),),
    (("sleep", 3), ("with", A, (("notify", A),))),
)


def has_deadlock(program: Program, clock: Clock) -> bool:
    return any(waits for _, _, waits in Reference(program, clock).ends())


def test_the_model_knows_the_two_clocks() -> None:
    assert has_deadlock(SAME_INSTANT, "jump")
    assert not has_deadlock(APART, "jump")
    assert has_deadlock(APART, "explore")


@pytest.mark.timeout(1_500)
def test_random_programs_come_to_the_ends_of_the_model() -> None:
    compared: Counter[str] = Counter()
    with engine() as made:

        @settings(
            max_examples=PROGRAMS,
            derandomize=not SOAK,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(programs())
        @example(SAME_INSTANT)
        @example(APART)
        @example(GONE)
        def agrees(program: Program) -> None:
            compare(made, program, compared)

        agrees()
    assert compared["programs"] >= PROGRAMS
    # not only those in which nothing happens
    for what in ("deadlock", "no deadlock", "in full"):
        for clock in CLOCKS:
            assert compared[f"{what}, {clock}"] >= PROGRAMS // 20, compared
