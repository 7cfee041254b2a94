"""The searches in their order: few preemptions, then every order that matters, then at random.

Each is made under one clock after the other, so that what only the second one can show does not
have to wait. What takes a preemption at each of several moments comes late in that order, but is
seldom rare: a few schedules at random, early on, find it far sooner. A search ends with its first
failure, which is made short: of its choices those are kept without which it does not fail in the
same words.
"""

from __future__ import annotations

import gc
import itertools
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pytest_gracekill.errors import UsageError
from pytest_gracekill.explore.allowance import Allowance, cpu
from pytest_gracekill.explore.bounded import Bounded
from pytest_gracekill.explore.chance import Pct, Pos, RandomWalk
from pytest_gracekill.explore.points import Following
from pytest_gracekill.explore.real_calls import RealCalls
from pytest_gracekill.explore.run import LONGEST, Run
from pytest_gracekill.explore.simulating import on_one_core, simulated, without_garbage
from pytest_gracekill.explore.sleep_sets import SleepSets
from pytest_gracekill.explore.tasks import TIME
from pytest_gracekill.explore.workers import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_gracekill.explore.points import Point
    from pytest_gracekill.explore.run import Clock
    from pytest_gracekill.explore.scenario import Scenario, Words
    from pytest_gracekill.judgement import Judgement

#: Tries to make a failing schedule shorter, and seconds for it.
_SHRINKS = 400
_SHRINK_SECONDS = 2.0
#: Wall seconds for a thread to end when the exploration does.
_JOIN = 2.0
#: After so many schedules what they have left is collected; it is only looked at once.
_COLLECTED = 128
#: The shares of the time: for few preemptions, and of what is left then, for depth first.
_BOUNDED = 0.25
_DEPTH_FIRST = 0.7
#: So many schedules with few preemptions come before depth first, under each clock; the others
#: come after it, where it could not run every order.
_FEW = 500
#: Schedules of a search without sleep sets: so many are cheap.
_IN_FULL = 300
#: Schedules at random under each clock, before those with a preemption; under *explore*, where
#: there is more to see, twice as many.
_SCOUTS = 16

#: Schedules in which real locks are looked for: that takes time.
_WATCHED = 12


@dataclass(slots=True)
class Found:
    """A schedule that fails: under which clock, with which choices, in which words."""

    clock: Clock
    choices: dict[int, int]
    words: Words
    schedules: int


@dataclass(slots=True)
class Coverage:
    """What was searched under one clock, and what has stopped it.

    ``bound``: every schedule with so many preemptions was run (-1: not even those with none).
    ``complete``: every order of operations was (``in_full``: also of those that have no object in
    common; they matter where threads share something that is under no lock). ``limit``: what has
    ended the search, else empty.
    """

    clock: Clock
    schedules: int = 0
    pruned: int = 0
    bound: int = -1
    complete: bool = False
    in_full: bool = False
    limit: str = ""


@dataclass(slots=True)
class Result:
    """What a search has come to."""

    coverage: list[Coverage] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)

    @property
    def schedules(self) -> int:
        return sum(covered.schedules for covered in self.coverage)


class _Front:
    """The search under one clock: how far it has come. ``over``: there is nothing more to do."""

    def __init__(self, clock: Clock, bound: int, seed: int) -> None:
        self.covered = Coverage(clock=clock)
        self.bounded = Bounded(bound)
        self.scout = Pos(seed)
        self.chances: Iterator[Pos | RandomWalk | Pct] = itertools.cycle(
            (self.scout, RandomWalk(seed), Pct(seed))
        )
        self.over = False


class _Searching(Protocol):
    """What knows the points of the schedule that was run last."""

    @property
    def points(self) -> list[Point]: ...


class _OverError(Exception):
    """The search under a clock ends, and why."""


class _TimeUpError(Exception):
    """One of the searches has had its time."""


class _FoundError(Exception):
    """A schedule fails: that is all there was to find."""


class Search:
    """One exploration at work. ``everything``: goes on after a failure, for one of each kind.

    ``seconds`` of CPU time, ``wall`` of real time at most; `on_progress` is passed what is left.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        preemptions: int | None,
        seconds: float,
        seed: int,
        wall: float | None = None,
        everything: bool = False,
        on_progress: Callable[[Coverage, int, float], None] | None = None,
    ) -> None:
        self._scenario = scenario
        self._preemptions = preemptions
        self._seconds, self._wall = seconds, wall
        self._allowance = Allowance(seconds, wall)
        self._seed = seed
        self._everything = everything
        self._on_progress = on_progress
        self._pool = Pool()
        self._watched = 0
        self._deadline = 0.0
        self._runs = 0
        self.result = Result()

    # -- from outside

    def explore(self, clocks: tuple[Clock, ...]) -> Result:
        """Search under each clock; they share the time."""
        bound = 2 if self._preemptions is None else self._preemptions
        fronts = [_Front(clock, bound, self._seed) for clock in clocks]
        self.result.coverage = [front.covered for front in fronts]
        with self._running():
            with suppress(_FoundError):
                self._allowance = Allowance(self._seconds, self._wall)
                self._search(fronts, bound, self._allowance.end)
            for number, found in enumerate(self.result.found):
                self.result.found[number] = self._plainer(self._shrunk(found), clocks[0])
        return self.result

    def replay(self, clock: Clock, choices: Mapping[int, int]) -> tuple[Judgement, Run]:
        """One schedule, recorded.

        :raises UsageError: a choice cannot be had, or the program is not the one that it was.
        """
        with self._running():
            strategy = Following(choices, strict=True)
            run = self._run(strategy, clock, recorded=True)
            if strategy.error is not None:
                raise UsageError(
                    f"the schedule does not fit the program any more: {strategy.error}",
                    source="the token",
                )
            unused = [number for number in choices if number >= len(strategy.points)]
            if unused:
                raise UsageError(
                    f"the schedule does not fit the program any more: the token decides choice"
                    f" {unused[0] + 1}, and there are {len(strategy.points)}",
                    source="the token",
                )
            return self._scenario.report(run), run

    def _running(self) -> ExitStack:
        with ExitStack() as stack:
            stack.enter_context(without_garbage())
            stack.enter_context(on_one_core())
            stack.enter_context(simulated())
            self._pool = Pool()
            stack.callback(self._pool.close, _JOIN)
            return stack.pop_all()
        raise AssertionError  # what is entered suppresses nothing

    # -- one schedule

    def _run(self, strategy: object, clock: Clock, *, recorded: bool = False) -> Run:
        self._runs += 1
        if self._runs % _COLLECTED == 0:
            gc.collect(0)
        run = Run(self._pool, strategy, clock=clock, recorded=recorded)  # type: ignore[arg-type]
        watching = None
        if self._watched < _WATCHED:
            self._watched += 1
            run.watch = watching = RealCalls()
        try:
            run.alone(lambda: self._scenario.prepare(run))
        except BaseException:
            run.abandon()
            raise
        run.go()
        if run.refused is not None:
            raise run.refused
        if watching is not None and watching.seen is not None:
            raise UsageError(
                f"a lock that is not simulated is used at {watching.seen}: name it in"
                " locks=[(object, 'attribute')] under the name by which it is reached there, or"
                " make it in the setup"
            )
        return run

    def _check(self, run: Run, covered: Coverage, strategy: _Searching) -> None:
        self._judge(run, covered, strategy)
        run.forget()

    def _judge(self, run: Run, covered: Coverage, strategy: _Searching) -> None:
        if run.diverged is not None:
            raise _OverError(
                f"the program is not deterministic: {run.diverged}; every schedule has to do the"
                " same again with the same choices"
            )
        if run.outcome == "pruned":
            covered.pruned += 1
            return
        covered.schedules += 1
        words = self._scenario.words(run)
        if run.outcome == "long" and not words:
            task = run.last_holder
            raise _OverError(
                f"a schedule has more than {LONGEST} operations"
                + (f": {task.name} goes in circles ({task.kind} {task.what})" if task else "")
            )
        if words and all(words != found.words for found in self.result.found):
            choices = {n: p.choice for n, p in enumerate(strategy.points) if p.choice != p.default}
            self.result.found.append(Found(covered.clock, choices, words, self.result.schedules))
            if not self._everything:
                raise _FoundError

    # -- the order of searches

    def _search(self, fronts: list[_Front], bound: int, end: float) -> None:
        began = cpu()
        few = began + (end - began) * _BOUNDED
        for level in range(bound + 1):
            self._on_each(fronts, few, lambda front, level=level: self._level(front, level, _FEW))  # type: ignore[misc]
            if not level:
                for _ in range(_SCOUTS):
                    # the last one again
                    self._on_each([*fronts, *fronts[1:]], few, self._scout)
        began = cpu()
        self._on_each(fronts, began + (end - began) * _DEPTH_FIRST, self._depth_first)
        for level in range(bound + 1):
            self._on_each(fronts, end, lambda front, level=level: self._level(front, level))  # type: ignore[misc]
        self._on_each(fronts, end, self._go_on_at_random)
        for front in fronts:
            short = self._preemptions is None or front.covered.bound < self._preemptions
            if short and not front.over:
                front.covered.limit = self._allowance.over()

    def _on_each(
        self, fronts: list[_Front], until: float, search: Callable[[_Front], None]
    ) -> None:
        """Search under each clock, where there is anything left to find; they share the time."""
        at_work = [front for front in fronts if not front.over]
        for place, front in enumerate(at_work):
            since = cpu()
            self._deadline = since + (until - since) / (len(at_work) - place)
            try:
                search(front)
            except _TimeUpError:
                pass
            except _OverError as over:
                front.covered.limit, front.over = str(over), True

    def _level(self, front: _Front, level: int, most: int | None = None) -> None:
        """All schedules with so many preemptions, if those with fewer have been run."""
        strategy = front.bounded
        while front.covered.bound == level - 1:
            if not strategy.has_left(level):
                front.covered.bound = level
            elif most is not None and front.covered.schedules >= most:
                return
            else:
                self._time_left(front.covered)
                strategy.begin()
                run = self._run(strategy, front.covered.clock)
                strategy.finish(run)
                self._check(run, front.covered, strategy)

    def _depth_first(self, front: _Front) -> None:
        covered = front.covered
        # sleep sets know of what is simulated; what threads share beside it shows in full only
        covered.in_full = self._every_order(front, SleepSets(reduce=False), _IN_FULL)
        covered.complete = front.over = covered.in_full or self._every_order(front, SleepSets())

    def _every_order(self, front: _Front, strategy: SleepSets, most: int | None = None) -> bool:
        """Run them all; False: there are more."""
        for _ in itertools.repeat(None) if most is None else range(most):
            if not strategy.begin():
                return True
            self._time_left(front.covered)
            run = self._run(strategy, front.covered.clock)
            strategy.finish(run)
            self._check(run, front.covered, strategy)
        return False

    def _scout(self, front: _Front) -> None:
        self._at_random(front, front.scout)

    def _at_random(self, front: _Front, strategy: Pos | Pct | RandomWalk) -> None:
        self._time_left(front.covered)
        strategy.begin()
        run = self._run(strategy, front.covered.clock)
        self._check(run, front.covered, strategy)

    def _go_on_at_random(self, front: _Front) -> None:
        while True:
            self._at_random(front, next(front.chances))

    def _time_left(self, covered: Coverage) -> None:
        if self._on_progress is not None:
            self._on_progress(covered, self.result.schedules, self._allowance.left())
        if self._allowance.left(until=self._deadline) <= 0:
            raise _TimeUpError

    # -- a failure made short

    def _shrunk(self, found: Found) -> Found:
        """The same failure with as few choices as it can be had."""
        best = dict(found.choices)
        allowance = Allowance(_SHRINK_SECONDS)
        left = _SHRINKS
        for candidate in self._candidates(best):
            if not left or allowance.left() <= 0:
                break
            left -= 1
            if self._fails(found, candidate):
                best.clear()
                best.update(candidate)
        return Found(found.clock, best, found.words, found.schedules)

    def _plainer(self, found: Found, clock: Clock) -> Found:
        """The same failure under the first clock, where no time has to pass for it."""
        plain = Found(clock, found.choices, found.words, found.schedules)
        if found.clock == clock or TIME in found.choices.values():
            return found
        return plain if self._fails(plain, plain.choices) else found

    def _candidates(self, best: dict[int, int]) -> Iterator[dict[int, int]]:
        """Fewer choices than the best so far, which changes meanwhile."""
        keep = 0
        while keep < len(best):
            # the first ones alone
            yield dict(sorted(best.items())[:keep])
            keep += 1
        changed = True
        while changed:
            changed = False
            for point in sorted(best, reverse=True):
                size = len(best)
                yield {p: choice for p, choice in best.items() if p != point}
                changed = changed or len(best) < size

    def _fails(self, found: Found, choices: dict[int, int]) -> bool:
        strategy = Following(choices)
        run = self._run(strategy, found.clock)
        return not strategy.missed and self._scenario.words(run) == found.words
