"""Which schedule comes next: bounded by preemptions, depth first with sleep sets, and at random.

A *point* is where there is a choice: between tasks that are enabled, and, where that is explored,
that time passes. The first option is always to carry on: the task that has the baton, or the one
that was there first. To take the baton from a task that could go on is a preemption.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from pytest_gracekill.explore.tasks import TIME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_gracekill.explore.run import Run


#: What an operation changes, what it looks at, and whether it has to do with the clock.
Touched: TypeAlias = "tuple[int, int, bool]"


_THE_END = "nothing more to choose"


class DivergedError(Exception):
    """A schedule was run again, and the program did something else than before."""

    def __init__(self, point: int, was: str, found: str) -> None:
        super().__init__(point, was, found)
        self.point = point
        self.was = was
        self.found = found

    def __str__(self) -> str:
        return f"at choice {self.point + 1} there was {self.was}, and now there is {self.found}"


class Look(NamedTuple):
    """What there was at a point: whom one could choose, and what each was about to do."""

    options: tuple[int, ...]
    kinds: tuple[str, ...]

    def __str__(self) -> str:
        return ", ".join(
            "time" if option == TIME else f"{option}:{kind}"
            for option, kind in zip(self.options, self.kinds, strict=True)
        )


class Point(NamedTuple):
    """A point of a schedule, and what was chosen there."""

    look: Look
    default: int
    choice: int
    preempts: bool


def look_at(run: Run, options: Sequence[int]) -> Look:
    """What there is to choose from."""
    tasks = run.tasks
    # lists are made faster than generators; beside TIME stands the kind of the last task
    return Look(tuple(options), tuple([tasks[i].kind for i in options]))


class Strategy(Protocol):
    """Decides about one schedule after the other."""

    def pick(self, run: Run, here: int | None, options: list[int]) -> int | None:
        """Whom to give the baton; None: this schedule is not needed. ``here`` could carry on."""

    def time_was_forced(self, run: Run) -> bool:
        """Nobody can go on, and time passes; False: this schedule is not needed."""


class Following:
    """Follows the choices that it is given, then carries on; takes down all points.

    :param choices: by the number of the point.
    :param expected: the looks of the points that were seen before, as far as they are known.
    """

    def __init__(
        self, choices: Mapping[int, int], expected: Sequence[Look] = (), *, strict: bool = False
    ) -> None:
        self.points: list[Point] = []
        #: Points whose choice could not be had.
        self.missed: list[int] = []
        self.error: DivergedError | None = None
        self._choices = choices
        self._expected = expected
        self._strict = strict

    def time_was_forced(self, run: Run) -> bool:  # noqa: ARG002 - of the protocol
        return True

    def pick(self, run: Run, here: int | None, options: list[int]) -> int | None:
        if len(options) == 1:
            return options[0]
        number = len(self.points)
        look = look_at(run, options)
        if number < len(self._expected) and self._expected[number] != look:
            self.error = DivergedError(number, str(self._expected[number]), str(look))
            return None
        default = options[0] if here is None else here
        choice = self._choices.get(number, default)
        if choice not in options:
            self.missed.append(number)
            if self._strict:
                self.error = DivergedError(number, f"a choice {choice}", str(look))
                return None
            choice = default
        self.points.append(Point(look, default, choice, choice != default and preempts(here)))
        return choice


def preempts(here: int | None) -> bool:
    """Whether somebody else's turn takes the baton from one that could go on."""
    return here is not None


def costs(choice: int, default: int, here: int | None) -> int:
    """How many preemptions a choice is: time passes at the cost of one beside whoever could go."""
    if choice == default:
        return 0
    if choice == TIME:
        return 1
    return int(here is not None)


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
        self._cost = 0

    def begin(self) -> bool:
        """Take up the next schedule; False when all have been run."""
        self._points = []
        self._cost = 0
        if self._first:
            self._first = False
            self._now = None
            return True
        while self.level <= self.bound:
            waiting = self._open[self.level]
            if waiting:
                self._now = waiting.pop()
                return True
            self.level += 1
        return False

    def has_left(self, level: int) -> bool:
        """Whether there are more with so many preemptions, or with fewer."""
        return self._first or any(self._open[: level + 1])

    @property
    def points(self) -> list[Point]:
        """The points of the schedule that is run now."""
        return self._points

    def finish(self, run: Run) -> None:
        """The schedule has ended: it has to have come as far as before."""
        now, number = self._now, len(self._points)
        if now is not None and number <= now.at and run.diverged is None:
            run.diverged = DivergedError(number, str(now.points[number].look), _THE_END)

    def time_was_forced(self, run: Run) -> bool:  # noqa: ARG002 - of the protocol
        return True

    def pick(self, run: Run, here: int | None, options: list[int]) -> int | None:
        if len(options) == 1:
            return options[0]
        points = self._points
        number = len(points)
        look = look_at(run, options)
        now = self._now
        default = options[0] if here is None else here
        if now is not None and number <= now.at:
            before = now.points[number]
            if before.look != look:
                raise DivergedError(number, str(before.look), str(look))
            choice = before.choice if number < now.at else now.choice
            self._cost += costs(choice, default, here)
            points.append(Point(look, default, choice, here is not None))
            return choice
        points.append(Point(look, default, default, here is not None))
        for option in options:
            if option == default:
                continue
            cost = self._cost + costs(option, default, here)
            if cost <= self.bound:
                self._open[cost].append(_Open(points, number, option))
        return default


class _Node:
    """A state of the depth-first search: what could be done, was done, and need not be done."""

    __slots__ = ("choice", "done", "here", "look", "sleep")

    def __init__(self, look: Look, here: int | None, sleep: dict[int, Touched]) -> None:
        self.look = look
        self.here = here
        self.sleep = sleep
        self.done: dict[int, Touched] = {}
        self.choice = 0


def _dependent(one: int, other: int, mine: Touched, its: Touched) -> bool:
    """Whether it matters which of two operations of different tasks comes first."""
    if TIME in (one, other) and mine[2] and its[2]:
        return True
    return bool(mine[0] & (its[0] | its[1]) or mine[1] & its[0])


def _announced(run: Run, option: int) -> Touched:
    """What an operation is going to touch, as far as it says so."""
    if option == TIME:
        return run.time_touches()
    task = run.tasks[option]
    return task.mask, task.reads, task.timed


class SleepSets:
    """Every order that matters, once: depth first, without orders of operations that commute.

    Godefroid's sleep sets. Two operations commute when neither changes what the other touches, and
    a step of time and an operation when the latter has nothing to do with the clock. What an
    operation has touched is known when it has been performed. ``reduce=False`` is full depth-first
    search.
    """

    def __init__(self, *, reduce: bool = True) -> None:
        self._reduce = reduce
        self._stack: list[_Node] = []
        self._depth = 0
        self._first = True
        # what need not be done at the next point; completed when the last choice was performed
        self._asleep: dict[int, Touched] = {}
        self._node: _Node | None = None
        self._performing: int | None = None

    def begin(self) -> bool:
        """Take up the next schedule; False when all have been run."""
        self._depth = 0
        self._asleep = {}
        self._node = self._performing = None
        if self._first:
            self._first = False
            return True
        while self._stack:
            node = self._stack[-1]
            left = [
                option
                for option in node.look.options
                if option not in node.sleep and option not in node.done
            ]
            if left:
                node.choice = left[0]
                return True
            self._stack.pop()
        return False

    @property
    def points(self) -> list[Point]:
        """The points of the schedule that is run now."""
        return [
            Point(
                node.look,
                node.look.options[0] if node.here is None else node.here,
                node.choice,
                node.here is not None,
            )
            for node in self._stack[: self._depth]
        ]

    def time_was_forced(self, run: Run) -> bool:
        self._settle(run)
        if TIME in self._asleep:
            return False
        self._wake(TIME, run.time_touches())
        return True

    def finish(self, run: Run) -> None:
        """The schedule has ended: what its last operation touched is known, too."""
        self._settle(run)
        if self._depth < len(self._stack) and run.diverged is None:
            look = self._stack[self._depth].look
            run.diverged = DivergedError(self._depth, str(look), _THE_END)

    def pick(self, run: Run, here: int | None, options: list[int]) -> int | None:
        self._settle(run)
        if len(options) == 1:
            choice = options[0]
            if choice in self._asleep:
                return None
            self._performing = choice
            return choice
        look = look_at(run, options)
        if self._depth < len(self._stack):
            node = self._stack[self._depth]
            if node.look != look:
                raise DivergedError(self._depth, str(node.look), str(look))
        else:
            node = _Node(look, here, self._asleep)
            default = options[0] if here is None else here
            candidates = [option for option in options if option not in node.sleep]
            if not candidates:
                return None
            node.choice = default if default in candidates else candidates[0]
            self._stack.append(node)
        self._depth += 1
        self._node, self._performing = node, node.choice
        if self._reduce:
            self._asleep = {**node.sleep, **node.done}
            # done before, or being done: what it leads to is what is looked at
            self._asleep.pop(node.choice, None)
        return node.choice

    def _settle(self, run: Run) -> None:
        """Now it is known what the last operation has touched."""
        who = self._performing
        if who is None:
            return
        self._performing = None
        if self._node is not None:
            self._node.done[who] = run.last
            self._node = None
        self._wake(who, run.last)

    def _wake(self, who: int, mine: Touched) -> None:
        """Wake up what does not commute with an operation that has been performed."""
        if self._asleep:
            self._asleep = {
                other: its
                for other, its in self._asleep.items()
                if not _dependent(who, other, mine, its)
            }


class _Seeded:
    """Schedules at random, each from a seed of its own: the same on every Python."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._number = 0
        self._random = random.Random()  # noqa: S311 - not for secrets
        self.points: list[Point] = []

    def begin(self) -> bool:
        """Take up the next schedule."""
        self._number += 1
        self._random = random.Random(f"{self._seed}:{self._number}")  # noqa: S311 - as above
        self.points = []
        return True

    def time_was_forced(self, run: Run) -> bool:  # noqa: ARG002 - of the protocol
        return True

    def pick(self, run: Run, here: int | None, options: list[int]) -> int | None:
        if len(options) == 1:
            return options[0]
        choice = self._choose(run, options)
        default = options[0] if here is None else here
        self.points.append(Point(look_at(run, options), default, choice, here is not None))
        return choice

    def _choose(self, run: Run, options: list[int]) -> int:
        raise NotImplementedError


class RandomWalk(_Seeded):
    """Whoever could go on goes on with the same probability."""

    def _choose(self, run: Run, options: list[int]) -> int:  # noqa: ARG002 - of the protocol
        return options[int(self._random.random() * len(options))]


class Pct(_Seeded):
    """Probabilistic concurrency testing: random priorities, and a few changes of them.

    Burckhardt et al., ASPLOS 2010: finds a bug of depth d with a guaranteed probability.
    """

    #: Changes of priority: bugs of a depth of one more are found.
    CHANGES = 2

    def begin(self) -> bool:
        self._priorities: dict[int, float] = {}
        self._step = 0
        begun = super().begin()
        length = getattr(self, "_length", 20)
        self._changes = {int(self._random.random() * length) for _ in range(self.CHANGES)}
        return begun

    def _choose(self, run: Run, options: list[int]) -> int:  # noqa: ARG002 - of the protocol
        for option in options:
            if option not in self._priorities:
                self._priorities[option] = 1.0 + self._random.random()
        self._length = max(getattr(self, "_length", 20), self._step + 1)
        choice = max(options, key=self._priorities.__getitem__)
        if self._step in self._changes:
            self._priorities[choice] = -float(self._step)
            choice = max(options, key=self._priorities.__getitem__)
        self._step += 1
        return choice


class Pos(_Seeded):
    """Partial order sampling: each operation has a random priority until one races with it.

    Yuan, Yang and Gu, CAV 2018.
    """

    def begin(self) -> bool:
        self._priorities: dict[int, float] = {}
        return super().begin()

    def _choose(self, run: Run, options: list[int]) -> int:
        for option in options:
            if option not in self._priorities:
                self._priorities[option] = self._random.random()
        choice = max(options, key=self._priorities.__getitem__)
        mine = _announced(run, choice)
        for option in options:
            if option == choice or _dependent(choice, option, mine, _announced(run, option)):
                self._priorities.pop(option, None)
        return choice
