"""What is explored: a program of tasks, made anew for each schedule, and what to make of its end.

A scenario prepares a run, and says of a run that has ended which words it is worth; only for those
that are told does it make a report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from pytest_gracekill.explore.run import Run
    from pytest_gracekill.judgement import Judgement

#: Verdict and word of each that is not ok, in the order of the verdicts.
Words: TypeAlias = "tuple[tuple[str, str], ...]"


class Scenario(Protocol):
    """A program to explore."""

    #: Tasks, operations, time: what the search covers, as people read it.
    scope: str
    #: What a token is good for: the same text on every Python version.
    identity: str

    def prepare(self, run: Run) -> None:
        """Make everything anew, and add the tasks; called in the setup's task."""

    def words(self, run: Run) -> Words:
        """What is broken in a schedule that has ended; empty: nothing."""

    def report(self, run: Run) -> Judgement:
        """The same as a report, of a run that was recorded."""

    def raised(self) -> str:
        """What the routine has raised in any schedule, with its line; empty: nothing."""

    def unjudged(self) -> str:
        """What no schedule has shown anything of; empty: nothing of that kind."""
