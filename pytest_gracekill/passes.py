"""What trials that are ok have left open: said of a test that passes, too.

A pass says nothing of what could not apply, and a user does not know what that was. It is on
pytest's own report of the test, so that it comes through pytest-xdist.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from pytest_gracekill.render.text import by_reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pytest

    from pytest_gracekill.judgement import Judgement

#: The name under which a report of pytest's has what its trials have left open.
ATTRIBUTE = "gracekill_open"

_WIDTH = 100


def note(report: pytest.TestReport, trials: Sequence[Judgement]) -> None:
    """Put on the report of a test that passed: the tables, for ``-rP``, and what is left open."""
    report.sections += [("gracekill", str(trial)) for trial in trials]
    found = [line for trial in trials for line in _open(trial)]
    # pytest-xdist sends everything that a report has in its __dict__
    vars(report)[ATTRIBUTE] = list(dict.fromkeys(found))


def _open(trial: Judgement) -> Iterator[str]:
    yield from trial.notes
    yield from (f"not judged: {each}" for each in by_reason(trial.not_judged))


def summary(reports: Iterable[pytest.TestReport]) -> list[str]:
    """A line for each thing that tests which passed have left open, with those tests."""
    by_line: dict[str, list[str]] = {}
    for report in reports:
        for line in getattr(report, ATTRIBUTE, ()):
            by_line.setdefault(line, []).append(report.nodeid)
    lines: list[str] = []
    for line, tests in by_line.items():
        where = tests[0] if len(tests) == 1 else f"{len(tests)} tests, such as {tests[0]}"
        lines += textwrap.wrap(
            f"{line}: {where}",
            width=_WIDTH,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines
