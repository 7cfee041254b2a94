"""The searches in their order: few preemptions, then every order that matters, then at random.

A search ends with its first failure, which is made short: of its choices those are kept without
which it does not fail in the same words.
"""

from __future__ import annotations

import gc
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_gracekill.errors import UsageError
from pytest_gracekill.explore.run import LONGEST, Run
from pytest_gracekill.explore.simulating import on_one_core, simulated, without_garbage
from pytest_gracekill.explore.strategies import (
    Bounded,
    Following,
    Pct,
    Pos,
    RandomWalk,
    SleepSets,
)
from pytest_gracekill.explore.workers import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_gracekill.explore.run import Clock
    from pytest_gracekill.explore.scenario import Scenario, Words
    from pytest_gracekill.explore.strategies import Point
    from pytest_gracekill.report import Report

#: Tries to make a failing schedule shorter, and seconds for it.
_SHRINKS = 400
_SHRINK_SECONDS = 2.0
#: Wall seconds for a thread to end when the exploration does.
_JOIN = 2.0
#: After so many schedules what they have left is collected; it is only looked at once.
_COLLECTED = 64
#: The shares of the time: for few preemptions, and of what is left then, for depth first.
_BOUNDED = 0.25
_DEPTH_FIRST = 0.7

_monotonic = time.monotonic


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
    ``complete``: every order of operations was. ``limit``: what has ended the search, else empty.
    """

    clock: Clock
    schedules: int = 0
    pruned: int = 0
    bound: int = -1
    complete: bool = False
    limit: str = ""
    seconds: float = 0.0


@dataclass(slots=True)
class Result:
    """What a search has come to."""

    coverage: list[Coverage] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)

    @property
    def schedules(self) -> int:
        return sum(covered.schedules for covered in self.coverage)


class _OverError(Exception):
    """The search ends: a failure, a limit."""


class Search:
    """One exploration at work. ``everything``: goes on after a failure, for one of each kind."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        preemptions: int | None,
        seconds: float,
        seed: int,
        everything: bool = False,
        on_progress: Callable[[Coverage, int, float], None] | None = None,
    ) -> None:
        self._scenario = scenario
        self._preemptions = preemptions
        self._seconds = seconds
        self._seed = seed
        self._everything = everything
        self._on_progress = on_progress
        self._pool = Pool()
        self._deadline = 0.0
        self._runs = 0
        self.result = Result()

    # -- from outside

    def explore(self, clocks: tuple[Clock, ...]) -> Result:
        """Search under each clock; both share the time."""
        began = _monotonic()
        with self._running():
            for place, clock in enumerate(clocks):
                left = began + self._seconds - _monotonic()
                self._deadline = _monotonic() + left / (len(clocks) - place)
                covered = Coverage(clock=clock)
                self.result.coverage.append(covered)
                since = _monotonic()
                try:
                    self._search(covered)
                except _OverError as over:
                    covered.limit = str(over)
                finally:
                    covered.seconds = _monotonic() - since
                if self.result.found and not self._everything:
                    break
            for number, found in enumerate(self.result.found):
                self.result.found[number] = self._shrunk(found)
        return self.result

    def replay(self, clock: Clock, choices: Mapping[int, int]) -> tuple[Report, Run]:
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
            return self._scenario.report(run), run

    def _running(self) -> ExitStack:
        stack = ExitStack()
        stack.enter_context(without_garbage())
        stack.enter_context(on_one_core())
        stack.enter_context(simulated())
        self._pool = Pool()
        stack.callback(self._pool.close, _JOIN)
        return stack

    # -- one schedule

    def _run(self, strategy: object, clock: Clock, *, recorded: bool = False) -> Run:
        self._runs += 1
        if self._runs % _COLLECTED == 0:
            gc.collect(0)
        run = Run(self._pool, strategy, clock=clock, recorded=recorded)  # type: ignore[arg-type]
        try:
            run.alone(lambda: self._scenario.prepare(run))
        except BaseException:
            run.abandon()
            raise
        run.go()
        return run

    def _check(self, run: Run, covered: Coverage, points: list[Point]) -> None:
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
            task = run.holder
            raise _OverError(
                f"a schedule has more than {LONGEST} operations"
                + (f": {task.name} goes in circles ({task.kind} {task.what})" if task else "")
            )
        if words and all(words != found.words for found in self.result.found):
            choices = {n: p.choice for n, p in enumerate(points) if p.choice != p.default}
            self.result.found.append(Found(covered.clock, choices, words, self.result.schedules))
            if not self._everything:
                raise _OverError("")

    # -- the order of searches

    def _search(self, covered: Coverage) -> None:
        end = self._deadline
        for share, search in (
            (_BOUNDED, self._bounded),
            (_DEPTH_FIRST, self._depth_first),
            (1.0, self._at_random),
        ):
            self._deadline = _monotonic() + (end - _monotonic()) * share
            try:
                search(covered)
            except _TimeUpError as over:
                limit = over
            else:
                if covered.complete:
                    return
        if self._preemptions is None or covered.bound < self._preemptions:
            raise limit

    def _bounded(self, covered: Coverage) -> None:
        bound = 2 if self._preemptions is None else self._preemptions
        strategy = Bounded(bound)
        while strategy.begin():
            covered.bound = strategy.level - 1
            self._time_left(covered)
            run = self._run(strategy, covered.clock)
            strategy.finish(run)
            self._check(run, covered, strategy.points)
        covered.bound = bound

    def _depth_first(self, covered: Coverage) -> None:
        strategy = SleepSets()
        while strategy.begin():
            self._time_left(covered)
            run = self._run(strategy, covered.clock)
            strategy.finish(run)
            self._check(run, covered, strategy.points)
        covered.complete = True

    def _at_random(self, covered: Coverage) -> None:
        strategies = [kind(self._seed) for kind in (RandomWalk, Pct, Pos)]
        while True:
            for strategy in strategies:
                self._time_left(covered)
                strategy.begin()
                run = self._run(strategy, covered.clock)
                self._check(run, covered, strategy.points)

    def _time_left(self, covered: Coverage) -> None:
        left = self._deadline - _monotonic()
        if self._on_progress is not None:
            self._on_progress(covered, self.result.schedules, left)
        if left <= 0:
            raise _TimeUpError(f"its {self._seconds:g} s were over")

    # -- a failure made short

    def _shrunk(self, found: Found) -> Found:
        """The same failure with as few choices as it can be had."""
        best = dict(found.choices)
        deadline = _monotonic() + _SHRINK_SECONDS
        left = _SHRINKS
        for candidate in self._candidates(best):
            if not left or _monotonic() > deadline:
                break
            left -= 1
            if self._fails(found, candidate):
                best.clear()
                best.update(candidate)
        return Found(found.clock, best, found.words, found.schedules)

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


class _TimeUpError(_OverError):
    pass
