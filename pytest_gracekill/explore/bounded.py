"""All schedules with few preemptions: those with none first, then those with one, and so on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_gracekill.explore.points import THE_END, DivergedError, Point, costs, look_at

if TYPE_CHECKING:
    from pytest_gracekill.explore.run import Run


class _Open(NamedTuple):
    """A schedule that is still to be run: up to a point as another one, then differently."""

    points: tuple[Point, ...] | list[Point]
    at: int
    choice: int


class Bounded:
    """All schedules with so many preemptions: first those with none, then with one, and so on."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.level = 0
        self._open: list[list[_Open]] = [[] for _ in range(bound + 1)]
        self._first = True
        self._now: _Open | None = None
        self._points: list[Point] = []
        self._passed = 0

    def begin(self) -> bool:
        """Take up the next schedule; False when all have been run."""
        self._points = []
        self._passed = 0
        if self._first:
            self._first = False
            return True
        while self.level <= self.bound:
            waiting = self._open[self.level]
            if waiting:
                self._now = now = waiting.pop()
                self._points = list(now.points[: now.at])
                return True
            self.level += 1
        return False

    def has_left(self, level: int) -> bool:
        """Whether there are more with so many preemptions, or with fewer."""
        return self._first or any(self._open[: level + 1])

    @property
    def points(self) -> list[Point]:
        """The points of the schedule that is run now."""
        return self._points[: self._passed]

    def finish(self, run: Run) -> None:
        """The schedule has ended: it has to have come as far as before."""
        now, number = self._now, self._passed
        if now is not None and number <= now.at and run.diverged is None:
            run.diverged = DivergedError(number, str(now.points[number].look), THE_END)

    def time_was_forced(self, run: Run) -> bool:  # noqa: ARG002 - of the protocol
        return True

    def pick(self, run: Run, here: int | None, options: list[int]) -> int | None:
        if len(options) == 1:
            return options[0]
        points = self._points
        number = self._passed
        look = look_at(run, options)
        now = self._now
        if now is not None and number <= now.at:
            before = now.points[number]
            if before.look != look:
                raise DivergedError(number, str(before.look), str(look))
            self._passed += 1
            if number < now.at:
                return before.choice
            points.append(Point(look, before.default, now.choice))
            return now.choice
        default = options[0] if here is None else here
        self._passed += 1
        points.append(Point(look, default, default))
        for option in options:
            if option == default:
                continue
            # it costs what this schedule costs, beside what is chosen here
            cost = self.level + costs(option, default, here)
            if cost <= self.bound:
                self._open[cost].append(_Open(points, number, option))
        return default
