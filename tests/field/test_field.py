"""Routines that others ship, judged at flush times around their grace.

Each is the project's real code. What is expected follows from its steps: SIGKILL costs what was not
flushed by then, and a routine that gives enough time raises no alarm at all.
"""

from __future__ import annotations

import json
import re
import warnings
from math import floor, inf
from typing import TYPE_CHECKING

import pytest

from . import figures, survey
from .command import FIGURES
from .measuring import arguments
from .pulse import Pulse
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
SLACK = 60.0
#: None of them hangs but where that is the point.
BUDGET = 80.0

RUN = "run python tests/field"

#: Routine -> a flush time that its grace covers.
COVERED = {
    "popen-terminate": 2.0,
    "popen-terminate-kill": 1.0,
    "asyncio": 1.0,
    "multiprocessing": 0.5,
    "psutil": 0.5,
    "mirakuru": 2.0,
    "mirakuru-timeout": 0.5,
    "xprocess": 1.0,
    "xkill": 0.5,
    "tox": 0.02,
    "nox": 0.02,
    "labgrid-off": 2.0,
    "labgrid-atexit": 0.1,
    "trio": 0.5,
    "pexpect": 0.02,
    "start-stop-daemon": 1.0,
    "timeout": 0.1,
    "supervisor": 0.5,
}

#: Routine -> a longer grace than its own, by its parameter: a busy machine takes 0.2 s for nothing.
LENGTHENED = {"nox": 2.0}

#: Routine -> a flush time that its own grace does not cover. A block takes 0.4 s and more: that
#: long a busy machine may stand still without its costing another one.
NOT_COVERED = {
    "popen-kill": 0.1,
    "popen-terminate-kill": 12.0,
    "subprocess-run": 0.1,
    "multiprocessing": 12.0,
    "tox": 8.0,
    "nox": 8.0,
    "labgrid-atexit": 10.0,
    "trio": 12.0,
    "pexpect": 8.0,
    "timeout": 10.0,
    "oslo": 0.5,
}

#: The same for what has a parameter for its grace, which is then the first figure.
SHORTENED = (1.0, 10.0)

#: Routine -> what it returns, after a clean end and after SIGKILL.
RETURNS = {
    "xprocess": "1",
    "xkill": "1",
    "supervisor": "exit 0: vm: stopped",
    "start-stop-daemon": "exit 0",
}


def installed(key: str) -> Shipped:
    shipped = SHIPPED[key]
    if shipped.missing:
        pytest.skip(shipped.missing)
    return shipped


def judged(gracekill: Judge, shipped: Shipped, flush_time: float) -> tuple[Report, float]:
    """The report, and how long the machine stood still meanwhile, in seconds."""
    with Pulse() as pulse:
        report = gracekill(
            shipped.routine, slack=SLACK, budget=BUDGET, **arguments(shipped, flush_time)
        )
    data = report.verdicts.get("data")
    if data is not None and "the machine was too busy" in data.evidence:
        pytest.skip(f"{shipped.key}: {data.evidence}")
    return report, pulse.longest


def words(report: Report) -> set[str]:
    broken = [verdict for verdict in report.verdicts.values() if verdict.status != "ok"]
    return {word for verdict in broken for word in (verdict.word, *verdict.also)}


def grace_seen(report: Report) -> float:
    """Seconds from the first request to SIGKILL, as the report tells them."""
    found = re.search(r"the grace was ([\d.]+) s", report.verdicts["escalation"].evidence)
    assert found is not None, report
    return float(found[1])


def loses_what_its_steps_cost(
    report: Report, shipped: Shipped, flush_time: float, stood_still: float
) -> None:
    """What was not flushed at the SIGKILL, which came no sooner than the routine's source says.

    A machine that stands still keeps the VM from flushing, and wakes up to the SIGKILL.
    """
    grace = shipped.grace()
    assert grace is not None
    if not grace:
        # nothing comes before its SIGKILL
        assert words(report) == {"DATA LOST", "NEVER ASKED"}, report
        assert len(report.disk.lost) == BLOCKS
        return
    assert words(report) == {"DATA LOST", "KILLED EARLY"}, report
    seen = grace_seen(report)
    assert seen >= grace - 0.05, report
    flushed = BLOCKS - len(report.disk.lost)
    most = floor(BLOCKS * seen / flush_time)
    least = floor(BLOCKS * max(seen - stood_still, 0) / flush_time)
    assert least - survey.TOLERANCE <= flushed <= most + survey.TOLERANCE, (report, stood_still)


@pytest.mark.parametrize("key", COVERED)
def test_a_flush_that_its_grace_covers(gracekill: Judge, key: str) -> None:
    shipped, flush_time = installed(key), COVERED[key]
    if key in LENGTHENED:
        shipped = shipped.within(LENGTHENED[key])
    assert shipped.costs(flush_time) == 0
    report, stood_still = judged(gracekill, shipped, flush_time)
    if stood_still > ((shipped.grace() or inf) - flush_time) / 2:
        pytest.skip(f"the machine stood still for {stood_still:.1f} s, most of the grace")
    assert not words(report), report
    assert not report.disk.lost
    assert str(report.result) == RETURNS.get(key, str(report.result))


@pytest.mark.parametrize("key", NOT_COVERED)
def test_a_flush_that_its_grace_does_not_cover(gracekill: Judge, key: str) -> None:
    shipped, flush_time = installed(key), NOT_COVERED[key]
    report, stood_still = judged(gracekill, shipped, flush_time)
    if not shipped.steps:
        assert words(report) == {"NEVER ASKED", "NEVER KILLED"}, report
        assert "no stop request reached the VM" in report.verdicts["escalation"].evidence
        return
    loses_what_its_steps_cost(report, shipped, flush_time, stood_still)


@pytest.mark.parametrize("key", [key for key in SHIPPED if SHIPPED[key].timed is not None])
def test_a_grace_of_the_users_own(gracekill: Judge, key: str) -> None:
    """By the routine's own parameter, or its configuration."""
    grace, flush_time = SHORTENED
    shipped = installed(key).within(grace)
    report, stood_still = judged(gracekill, shipped, flush_time)
    loses_what_its_steps_cost(report, shipped, flush_time, stood_still)
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
def test_the_page_agrees_with_the_steps_and_with_the_survey(key: str) -> None:
    kept = json.loads(FIGURES.read_text(encoding="utf-8"))
    (row,) = (figures.Row(**row) for row in kept["rows"] if row["key"] == key)
    assert not row.strays or row.explained, row
    for flush_time, lost in zip(survey.FLUSH_TIMES, row.lost, strict=True):
        expected = SHIPPED[key].costs(flush_time)
        assert (lost is None) == (expected is None)
        assert abs((lost or 0) - (expected or 0)) <= survey.TOLERANCE, flush_time


@pytest.mark.parametrize("key", SHIPPED)
def test_every_routine_is_judged_as_it_is_shipped(key: str) -> None:
    assert key in COVERED or SHIPPED[key].costs(0.1) != 0
    assert key in NOT_COVERED or SHIPPED[key].timed is not None or SHIPPED[key].costs(12.0) == 0


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
