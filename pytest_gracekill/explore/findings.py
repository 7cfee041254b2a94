"""What an exploration has found, and how much it has looked at, as a record.

A test is handed an `Exploration`, which shows this record and notes that the test has looked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from pytest_gracekill.counted import counted
from pytest_gracekill.report import Report

if TYPE_CHECKING:
    from pytest_gracekill.explore.run import Step
    from pytest_gracekill.judgement import Judgement

#: The file with the text of an exploration.
TEXT = "exploration.txt"

Status: TypeAlias = Literal["failed", "exhausted", "incomplete"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failing schedule, as short as it could be made: its judgement, steps and token."""

    judgement: Judgement
    steps: tuple[Step, ...]
    token: str
    clock: str
    origin_ns: int

    def __str__(self) -> str:
        return self.judgement.headline()

    @property
    def report(self) -> Report:
        """The report of this schedule."""
        return Report(self.judgement)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What `Exploration` shows, attribute by attribute."""

    status: Status
    schedules: int
    scope: str
    limit: str = ""
    failures: tuple[Failure, ...] = ()
    test: str = ""
    replayed: bool = False

    def __str__(self) -> str:
        from pytest_gracekill.render.exploration import text  # noqa: PLC0415 - render reads us

        return text(self)

    @property
    def ok(self) -> bool:
        """True when every schedule within the scope was run and none fails."""
        return self.status == "exhausted"

    @property
    def failure(self) -> Judgement | None:
        """The judgement of the (first) failing schedule; None when none failed."""
        return self.failures[0].judgement if self.failures else None

    @property
    def token(self) -> str | None:
        """What replays the (first) failing schedule; None when none failed."""
        return self.failures[0].token if self.failures else None

    @property
    def steps(self) -> tuple[Step, ...]:
        """The (first) failing schedule, step by step."""
        return self.failures[0].steps if self.failures else ()

    def headline(self) -> str:
        """One line: the broken words, or how much was looked at."""
        if self.failures:
            words = self.failures[0].judgement.headline().removeprefix("gracekill: ")
            more = len(self.failures) - 1
            others = f", and {counted(more, 'other failure')}" if more else ""
            return f"gracekill: {words}{others} (explored)"
        if self.status == "exhausted":
            return f"gracekill: ok in all {self.schedules} schedules"
        return f"gracekill: INCOMPLETE, ok in the {self.schedules} schedules that were run"

    def check(self) -> None:
        """Do what `Exploration.check` does."""
        __tracebackhide__ = True
        if not self.ok:
            raise AssertionError(str(self))

    def save(self, directory: str | Path, *, title: str = "") -> Path:
        """Do what `Exploration.save` does."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TEXT).write_text(f"{self}\n", encoding="utf-8")
        for number, failure in enumerate(self.failures, start=1):
            own = folder if number == 1 else folder / f"failure-{number}"
            failure.judgement.save(own, title=title)
        return folder
