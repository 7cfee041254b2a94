"""Schedules at random, for what is too large to be looked at in full."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from pytest_gracekill.explore.points import Point, announced, dependent, look_at

if TYPE_CHECKING:
    from pytest_gracekill.explore.run import Run


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
        self.points.append(Point(look_at(run, options), default, choice))
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
        mine = announced(run, choice)
        for option in options:
            if option == choice or dependent(choice, option, mine, announced(run, option)):
                self._priorities.pop(option, None)
        return choice
