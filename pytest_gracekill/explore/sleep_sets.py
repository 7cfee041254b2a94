"""Every order that matters, depth first: what commutes is not tried in both orders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.explore.points import (
    THE_END,
    DivergedError,
    Look,
    Point,
    Touched,
    dependent,
    look_at,
)
from pytest_gracekill.explore.tasks import TIME

if TYPE_CHECKING:
    from pytest_gracekill.explore.run import Run


class _Node:
    """A state of the depth-first search: what could be done, was done, and need not be done."""

    __slots__ = ("choice", "done", "here", "look", "sleep")

    def __init__(self, look: Look, here: int | None, sleep: dict[int, Touched]) -> None:
        self.look = look
        self.here = here
        self.sleep = sleep
        self.done: dict[int, Touched] = {}
        self.choice = 0


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
            )
            for node in self._stack[: self._depth]
        ]

    def time_was_forced(self, run: Run) -> bool:
        if self._repeats():
            return True
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
            run.diverged = DivergedError(self._depth, str(look), THE_END)

    def pick(self, run: Run, here: int | None, options: list[int]) -> int | None:
        if self._repeats():
            return options[0] if len(options) == 1 else self._pass(run, options).choice
        self._settle(run)
        if len(options) == 1:
            choice = options[0]
            if choice in self._asleep:
                return None
            self._performing = choice
            return choice
        if self._depth < len(self._stack):
            node = self._pass(run, options)
        else:
            node = _Node(look_at(run, options), here, self._asleep)
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

    def _repeats(self) -> bool:
        """Whether the last node is still to come: up to it all is as in the schedule before."""
        return self._depth < len(self._stack) - 1

    def _pass(self, run: Run, options: list[int]) -> _Node:
        """The next node of those that there are; it has to be met as it was."""
        node = self._stack[self._depth]
        look = look_at(run, options)
        if node.look != look:
            raise DivergedError(self._depth, str(node.look), str(look))
        self._depth += 1
        return node

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
                if not dependent(who, other, mine, its)
            }
