"""What an exploration has found, and how much it has looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from pytest_gracekill.counted import counted

if TYPE_CHECKING:
    from pytest_gracekill.explore.run import Step
    from pytest_gracekill.report import Report

#: The file with the text of an exploration.
TEXT = "exploration.txt"

Status: TypeAlias = Literal["failed", "exhausted", "incomplete"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failing schedule, as short as it could be made: its report, steps and token."""

    report: Report
    steps: tuple[Step, ...]
    token: str
    clock: str
    origin_ns: int

    def __str__(self) -> str:
        return self.report.headline()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """The result of ``gracekill.explore``. ``str()`` is the text, ``check()`` asserts.

    ``status``: ``"failed"``; ``"exhausted"``, every schedule within ``scope`` was run and none
    fails; ``"incomplete"``, none of those that were run fails, and ``limit`` says why there are
    others. ``failures`` are all that are different, ``failure`` and ``token`` those of the first.
    ``schedules`` is how many were run. ``line`` is what to type for a replay.
    """

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

    def __repr__(self) -> str:
        return f"<Exploration {self.headline()}>"

    @property
    def failure(self) -> Report | None:
        """The report of the (first) failing schedule; None when none failed."""
        return self.failures[0].report if self.failures else None

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
            words = self.failures[0].report.headline().removeprefix("gracekill: ")
            more = len(self.failures) - 1
            others = f", and {counted(more, 'other failure')}" if more else ""
            return f"gracekill: {words}{others} (explored)"
        if self.status == "exhausted":
            return f"gracekill: ok in all {self.schedules} schedules"
        return f"gracekill: INCOMPLETE, ok in the {self.schedules} schedules that were run"

    def check(self) -> None:
        """Fail unless every schedule within the scope was run and none fails.

        :raises AssertionError: one fails, or the search is incomplete; the text has the report, the
            schedule as steps, and the line that replays it.
        """
        __tracebackhide__ = True
        if self.status != "exhausted":
            raise AssertionError(str(self))

    def save(self, directory: str | Path, *, title: str = "") -> Path:
        """Write the evidence of the failing schedule as a report does, with the text beside it.

        ``exploration.txt`` has the schedule as steps, and the line that replays it. Of further
        failures each has a folder of its own within. Returns the directory.
        """
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TEXT).write_text(f"{self}\n", encoding="utf-8")
        for number, failure in enumerate(self.failures, start=1):
            own = folder if number == 1 else folder / f"failure-{number}"
            failure.report.save(own, title=title)
        return folder
