"""The points of a schedule, what can be chosen there, and how a given schedule is followed.

A *point* is where there is a choice: between tasks that are enabled, and, where that is explored,
that time passes. The first option is always to carry on: the task that has the baton, or the one
that was there first. To take the baton from a task that could go on is a preemption.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from pytest_gracekill.explore.tasks import TIME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_gracekill.explore.run import Run


#: What an operation changes, what it looks at, and whether it has to do with the clock.
Touched: TypeAlias = "tuple[int, int, bool]"


THE_END = "nothing more to choose"


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
    """

    def __init__(self, choices: Mapping[int, int], *, strict: bool = False) -> None:
        self.points: list[Point] = []
        #: Points whose choice could not be had.
        self.missed: list[int] = []
        self.error: DivergedError | None = None
        self._choices = choices
        self._strict = strict

    def time_was_forced(self, run: Run) -> bool:  # noqa: ARG002 - of the protocol
        return True

    def pick(self, run: Run, here: int | None, options: list[int]) -> int | None:
        if len(options) == 1:
            return options[0]
        number = len(self.points)
        look = look_at(run, options)
        default = options[0] if here is None else here
        choice = self._choices.get(number, default)
        if choice not in options:
            self.missed.append(number)
            if self._strict:
                self.error = DivergedError(number, f"a choice {choice}", str(look))
                return None
            choice = default
        self.points.append(Point(look, default, choice))
        return choice


def costs(choice: int, default: int, here: int | None) -> int:
    """How many preemptions a choice is: time passes at the cost of one beside whoever could go."""
    if choice == default:
        return 0
    if choice == TIME:
        return 1
    return int(here is not None)


def dependent(one: int, other: int, mine: Touched, its: Touched) -> bool:
    """Whether it matters which of two operations of different tasks comes first."""
    if TIME in (one, other) and mine[2] and its[2]:
        return True
    return bool(mine[0] & (its[0] | its[1]) or mine[1] & its[0])


def announced(run: Run, option: int) -> Touched:
    """What an operation is going to touch, as far as it says so."""
    if option == TIME:
        return run.time_touches()
    task = run.tasks[option]
    return task.mask, task.reads, task.timed
