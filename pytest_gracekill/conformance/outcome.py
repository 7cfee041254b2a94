"""What came of a case, read off pytest's report of it and put on that report as a row."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill.conformance import rows
from pytest_gracekill.conformance.cases import described
from pytest_gracekill.conformance.terms import REMARKS, ROUTINE
from pytest_gracekill.fixtures import REPORTS

if TYPE_CHECKING:
    from pytest_gracekill.conformance.rows import Row


def note(item: pytest.Item, report: pytest.TestReport, call: pytest.CallInfo[None]) -> None:
    """Put the row on the report, when this phase of the test tells what came of it."""
    found = _row(item, report, call)
    if found is not None:
        # pytest-xdist sends everything that a report has in its __dict__
        vars(report)[rows.ATTRIBUTE] = found


def _row(item: pytest.Item, report: pytest.TestReport, call: pytest.CallInfo[None]) -> Row | None:
    assert isinstance(item, pytest.Function)
    case = described(item.function)
    name = item.name.removeprefix("test_")
    routine = item.stash.get(ROUTINE, "")
    trials = item.stash.get(REPORTS, [])
    remarks: list[str] = item.stash.get(REMARKS, [])
    make = functools.partial(rows.row, case, name, routine=routine)
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        return make("skipped", reason.removeprefix("Skipped: "))
    if report.failed and call.excinfo is not None:
        if report.when != "call":
            return make(f"ERROR at {report.when}", str(call.excinfo.value))
        return make(*rows.of_failure(str(call.excinfo.value), trials), trials=trials)
    if report.when == "call":
        return make(*rows.of_success(trials, remarks), trials=trials)
    return None
