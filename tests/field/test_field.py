"""Routines that others ship, judged at flush times around their grace.

Each is the project's real code. What is expected follows from its steps: SIGKILL costs what was not
flushed by then, and a routine that gives enough time raises no alarm at all.
"""

from __future__ import annotations

import json
import re
import warnings
from math import floor
from typing import TYPE_CHECKING

import pytest

from . import figures, survey
from .command import FIGURES
from .measuring import arguments
from .shipped import BLOCKS
from .table import SHIPPED

if TYPE_CHECKING:
    from pytest_gracekill import Report
    from pytest_gracekill.fixtures import Judge

    from .shipped import Shipped

pytestmark = [
    # what these tools leave open is theirs, and trio warns before it sends SIGKILL
    pytest.mark.filterwarnings("ignore:subprocess \\d+ is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:process .* ignored SIGTERM:RuntimeWarning"),
]

#: A busy machine makes anybody late: how prompt they are is not asked here.
SLACK = 5.0

RUN = "run python tests/field"

#: Routine -> flush times with the grace that its authors have chosen.
AS_SHIPPED = {
    "popen-kill": (0.1,),
    "popen-terminate": (0.1, 2.0),
    "popen-terminate-kill": (1.0, 8.0),
    "subprocess-run": (0.1,),
    "multiprocessing": (1.0, 4.0),
    "psutil": (1.0,),
    "mirakuru": (0.1, 2.0),
    "mirakuru-timeout": (0.5,),
    "xprocess": (0.1, 1.0),
    "tox": (0.1, 2.0),
    "nox": (0.1, 2.0),
    "labgrid-off": (0.1, 2.0),
    "labgrid-atexit": (0.1, 4.0),
    "trio": (0.5, 8.0),
    "pexpect": (0.1, 2.0),
    "start-stop-daemon": (1.0,),
    "timeout": (0.2, 4.0),
    "supervisor": (0.5,),
    "oslo": (0.5,),
}

#: Routine -> a shorter grace, by the routine's own parameter, and the flush time that it is hit by.
SHORTENED = {
    "popen-terminate-kill": (0.5, 2.0),
    "multiprocessing": (0.5, 2.0),
    "psutil": (0.5, 2.0),
    "mirakuru-timeout": (0.5, 2.0),
    "xprocess": (0.5, 2.0),
    "nox": (0.5, 2.0),
    "start-stop-daemon": (1.0, 4.0),
    "timeout": (0.5, 2.0),
    "supervisor": (1.0, 4.0),
}


#: Routine -> what it returns, after a clean end and after SIGKILL.
RETURNS = {"xprocess": "1", "supervisor": "exit 0: vm: stopped", "start-stop-daemon": "exit 0"}


def installed(key: str) -> Shipped:
    shipped = SHIPPED[key]
    if shipped.missing:
        pytest.skip(shipped.missing)
    return shipped


def judged(gracekill: Judge, shipped: Shipped, flush_time: float) -> Report:
    return gracekill(shipped.routine, slack=SLACK, **arguments(shipped, flush_time))


def words(report: Report) -> set[str]:
    broken = [verdict for verdict in report.verdicts.values() if verdict.status != "ok"]
    return {word for verdict in broken for word in (verdict.word, *verdict.also)}


def grace_seen(report: Report) -> float:
    """Seconds from the first request to SIGKILL, as the report tells them."""
    found = re.search(r"the grace was ([\d.]+) s", report.verdicts["escalation"].evidence)
    assert found is not None, report
    return float(found[1])


def agrees(report: Report, shipped: Shipped, flush_time: float) -> None:
    """What was lost is what the steps cost, at the grace that this machine gave."""
    grace = shipped.grace()
    expected = shipped.costs(flush_time)
    if expected is None:
        assert words(report) == {"NEVER KILLED"}, report
        assert "no signal was sent" in report.verdicts["escalation"].evidence
        return
    if not expected:
        assert not words(report), report
        assert not report.disk.lost
        return
    assert words(report) == {"DATA LOST", "KILLED EARLY"}, report
    seen = grace_seen(report)
    # never sooner than the routine's own source says
    assert grace is not None
    assert seen >= grace - 0.05, report
    flushed = floor(BLOCKS * seen / flush_time)
    assert abs(len(report.disk.lost) - (BLOCKS - flushed)) <= survey.TOLERANCE, report


@pytest.mark.parametrize(
    ("key", "flush_time"),
    [(key, flush_time) for key, times in AS_SHIPPED.items() for flush_time in times],
)
def test_as_shipped(gracekill: Judge, key: str, flush_time: float) -> None:
    shipped = installed(key)
    report = judged(gracekill, shipped, flush_time)
    agrees(report, shipped, flush_time)
    assert str(report.result) == RETURNS.get(key, str(report.result))


@pytest.mark.parametrize("key", SHORTENED)
def test_with_a_grace_that_is_too_short(gracekill: Judge, key: str) -> None:
    grace, flush_time = SHORTENED[key]
    shipped = installed(key).within(grace)
    assert shipped.costs(flush_time)
    report = judged(gracekill, shipped, flush_time)
    agrees(report, shipped, flush_time)
    # none of them says that it came to that
    assert report.calls[0].success, report
    assert str(report.result) == RETURNS.get(key, str(report.result))


def test_nox_hangs_behind_a_helper_that_holds_the_pipe(gracekill: Judge) -> None:
    shipped = installed("nox")
    report = gracekill(
        shipped.routine,
        flush_time=5.0,
        helpers=1,
        helper={"holds_stdout", "ignores_term", "session"},
        budget=1.5,
    )
    assert report.verdicts["promptness"].word == "HUNG", report
    assert "nox/popen.py" in "\n".join(report.verdicts["promptness"].detail), report


def test_trio_never_kills_when_warnings_are_errors(gracekill: Judge) -> None:
    """It warns before it sends SIGKILL, and the warning ends the task that would send it."""
    shipped = installed("trio")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = gracekill(shipped.routine, flush_profile="never", force=True, budget=7.0)
    assert report.verdicts["promptness"].word == "HUNG", report
    assert report.verdicts["escalation"].word == "NEVER KILLED", report


def test_the_page_has_the_routines_as_they_are() -> None:
    """Only the figures are measured; what is said of the routines comes from here."""
    kept = json.loads(FIGURES.read_text(encoding="utf-8"))
    assert tuple(kept["flush_times"]) == survey.FLUSH_TIMES
    assert [row["key"] for row in kept["rows"]] == list(SHIPPED)
    for row in kept["rows"]:
        key = row["key"]
        assert row.items() >= figures.facts(SHIPPED[key]).items(), RUN
        there = figures.surveyed(key)
        assert row["survey"] == (None if there is None else list(there)), RUN


@pytest.mark.parametrize("key", SHIPPED)
def test_the_page_agrees_with_the_survey_or_says_why(key: str) -> None:
    kept = json.loads(FIGURES.read_text(encoding="utf-8"))
    (row,) = (figures.Row(**row) for row in kept["rows"] if row["key"] == key)
    assert not row.strays or row.explained, row


@pytest.mark.parametrize("key", SHIPPED)
def test_every_routine_is_judged_as_it_is_shipped(key: str) -> None:
    assert key in AS_SHIPPED


@pytest.mark.parametrize("key", SHIPPED)
def test_the_survey_agrees_with_the_steps(key: str) -> None:
    """What the sources say and what was measured elsewhere: within a block, or explained."""
    shipped = SHIPPED[key]
    measured = survey.LOST.get(key)
    if key not in survey.LOST or key in survey.EXPLAINED:
        return
    if measured is None:
        assert shipped.costs(1.0) is None
        return
    for flush_time, lost in zip(survey.FLUSH_TIMES, measured, strict=True):
        expected = shipped.costs(flush_time)
        assert expected is not None
        assert abs(expected - lost) <= survey.TOLERANCE, flush_time
