"""Reports that a test was handed and has not looked at: such a test must not pass.

A report that is not ok, and whose test calls neither ``check()`` nor anything else of it, would be
green. Its test fails instead, at the line that ran the trial, with the table as the text.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pytest_gracekill.counted import counted

if TYPE_CHECKING:
    from types import FrameType

    from pytest_gracekill.explore.findings import Findings
    from pytest_gracekill.judgement import Judgement

_WIDTH = 100


def caller() -> FrameType:
    """The frame that has called the function that calls this."""
    return sys._getframe(2)  # noqa: SLF001 - as traceback.walk_stack does


class Handed:
    """One trial or exploration that is not ok, until its test looks at it.

    ``frame`` is the frame that ran it; it is kept for the traceback, and no longer than needed.
    """

    def __init__(self, found: Judgement | Findings, frame: FrameType) -> None:
        self.found = found
        self.place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        self._traceback: TracebackType | None = TracebackType(
            None, frame, frame.f_lasti, frame.f_lineno
        )

    def __repr__(self) -> str:
        return f"<Handed {self.found.headline()}, run in {self.place}>"

    @property
    def looked(self) -> bool:
        """Whether the test has looked at it, or has said that it means not to."""
        return self._traceback is None

    @property
    def traceback(self) -> TracebackType | None:
        """Points to the line that ran it; None when it was looked at."""
        return self._traceback

    def look(self) -> None:
        """Note that the test looks at it."""
        self._traceback = None


class Looks:
    """What one test was handed that is not ok, in order."""

    def __init__(self) -> None:
        self._handed: list[Handed] = []
        #: Whether the test itself has run: its set-up alone passes nothing.
        self.called = False

    def hand(self, found: Judgement | Findings, frame: FrameType) -> Handed:
        """Take note of one more."""
        self._handed.append(Handed(found, frame))
        return self._handed[-1]

    def settle(self) -> list[Handed]:
        """Return those that the test has not looked at, and forget all."""
        handed, self._handed = self._handed, []
        return [each for each in handed if not each.looked]


def fail(unseen: list[Handed]) -> None:
    """Fail for these, if there are any, as if the line that ran the first one had failed.

    :raises AssertionError: there are; the text is the table of each.
    """
    __tracebackhide__ = True
    if unseen:
        raise AssertionError(_text(unseen)).with_traceback(unseen[0].traceback)


def _text(unseen: list[Handed]) -> str:
    tables = "\n".join(str(each.found) for each in unseen)
    which = "this report" if len(unseen) == 1 else f"these {counted(len(unseen), 'report')}"
    places = ", ".join(dict.fromkeys(each.place for each in unseen))
    told = (
        f"the test did not look at {which} (run in {places}): call report.check(), or assert"
        " report.ok, or call report.ignore() where a report that is not ok is meant"
    )
    return "\n".join((tables, *textwrap.wrap(told, _WIDTH, subsequent_indent="  ")))
