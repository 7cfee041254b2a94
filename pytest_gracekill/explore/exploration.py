"""What a test gets from ``gracekill.explore``: what was found, and how much was looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_gracekill.explore.findings import Failure, Findings, Status
    from pytest_gracekill.explore.run import Step
    from pytest_gracekill.report import Report


class Exploration:
    """The result of ``gracekill.explore``. ``str()`` is the text, ``check()`` asserts.

    A test that ends without having looked at an exploration that is not ok fails, as with a
    `Report`: any attribute, ``str()``, ``bool()`` and ``check()`` are looks; ``repr()`` and
    ``save()`` are none.
    """

    __slots__ = ("_findings", "_on_look")

    def __init__(self, findings: Findings, on_look: Callable[[], None] | None = None) -> None:
        self._findings = findings
        self._on_look = on_look

    def _looked(self) -> Findings:
        """Note that the test looks at it."""
        if self._on_look is not None:
            self._on_look()
        return self._findings

    def __str__(self) -> str:
        return str(self._looked())

    def __repr__(self) -> str:
        return f"<Exploration {self._findings.headline()}>"

    def __bool__(self) -> bool:
        return self.ok

    @property
    def ok(self) -> bool:
        """True when every schedule within the scope was run and none fails.

        ``bool(exploration)`` is the same.
        """
        return self._looked().ok

    @property
    def status(self) -> Status:
        """``"failed"``, ``"exhausted"`` or ``"incomplete"``; the last has a ``limit``.

        Exhausted: every schedule within ``scope`` was run and none fails. Incomplete: none of those
        that were run fails, and ``limit`` says why there are others.
        """
        return self._looked().status

    @property
    def schedules(self) -> int:
        """How many schedules were run."""
        return self._looked().schedules

    @property
    def scope(self) -> str:
        """What was looked at."""
        return self._looked().scope

    @property
    def limit(self) -> str:
        """Why an incomplete exploration is incomplete; else empty."""
        return self._looked().limit

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Every failure that is different from the others."""
        return self._looked().failures

    @property
    def failure(self) -> Report | None:
        """The report of the (first) failing schedule; None when none failed."""
        failures = self._looked().failures
        return failures[0].report if failures else None

    @property
    def token(self) -> str | None:
        """What replays the (first) failing schedule; None when none failed."""
        return self._looked().token

    @property
    def steps(self) -> tuple[Step, ...]:
        """The (first) failing schedule, step by step."""
        return self._looked().steps

    @property
    def test(self) -> str:
        """The id of the test that has explored."""
        return self._looked().test

    @property
    def replayed(self) -> bool:
        """Whether one schedule was replayed from its token."""
        return self._looked().replayed

    def headline(self) -> str:
        """One line: the broken words, or how much was looked at."""
        return self._looked().headline()

    def check(self) -> None:
        """Fail unless every schedule within the scope was run and none fails.

        :raises AssertionError: one fails, or the search is incomplete; the text has the report, the
            schedule as steps, and the line that replays it.
        """
        __tracebackhide__ = True
        self._looked().check()

    def ignore(self) -> None:
        """Say that the test means not to look at this exploration, even if it is not ok."""
        self._looked()

    def save(self, directory: str | Path, *, title: str = "") -> Path:
        """Write the evidence of the failing schedule as a report does, with the text beside it.

        ``exploration.txt`` has the schedule as steps, and the line that replays it. Of further
        failures each has a folder of its own within. Returns the directory.
        """
        return self._findings.save(directory, title=title)
