"""Routines that others ship, judged at flush times around their grace.

Each is the project's real code. What is expected follows from its steps: SIGKILL costs what was not
flushed by then, and a routine that gives enough time raises no alarm at all.
"""

from __future__ import annotations

import re
from math import floor
from typing import TYPE_CHECKING

import pytest

from . import survey
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
    "trio": (0.5, 8.0),
    "start-stop-daemon": (1.0,),
    "timeout": (0.2, 4.0),
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
}


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


def grace_seen(report: Report) -> float | None:
    """Seconds from the first request to SIGKILL as the report tells them; None without SIGKILL."""
    told = report.verdicts["escalation"].evidence
    stamps = re.findall(r"(SIG[A-Z]+|QMP \w+) t\+([\d.]+)", told)
    killed = [float(at) for name, at in stamps if name == "SIGKILL"]
    asked = [float(at) for name, at in stamps if name != "SIGKILL"]
    if not killed:
        return None
    return killed[0] - min(asked) if asked else 0.0


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
    assert grace is not None
    seen = grace_seen(report)
    assert seen is not None, report
    # never sooner than the routine's own source says
    assert seen >= grace - 0.05, report
    assert words(report) == {"DATA LOST", "KILLED EARLY"}, report
    flushed = floor(BLOCKS * seen / flush_time)
    assert abs(len(report.disk.lost) - (BLOCKS - flushed)) <= survey.TOLERANCE, report


@pytest.mark.parametrize(
    ("key", "flush_time"),
    [(key, flush_time) for key, times in AS_SHIPPED.items() for flush_time in times],
)
def test_as_shipped(gracekill: Judge, key: str, flush_time: float) -> None:
    shipped = installed(key)
    agrees(judged(gracekill, shipped, flush_time), shipped, flush_time)


@pytest.mark.parametrize("key", SHORTENED)
def test_with_a_grace_that_is_too_short(gracekill: Judge, key: str) -> None:
    grace, flush_time = SHORTENED[key]
    shipped = installed(key).within(grace)
    assert shipped.costs(flush_time)
    agrees(judged(gracekill, shipped, flush_time), shipped, flush_time)


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
