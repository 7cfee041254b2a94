"""A test that runs a trial and looks at nothing of its report does not pass, whatever its style."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import RunPytest

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)

HEAD = """
import unittest
import pytest
import threading

def kills(popen):
    popen.kill()
    popen.wait()

def stops(popen):
    popen.terminate()
    popen.wait()

def deadlocks(gracekill):
    locks = lambda: (threading.Lock(), threading.Lock())
    def forth(state):
        with state[0], state[1]: pass
    def back(state):
        with state[1], state[0]: pass
    return gracekill.explore_threads(locks, forth, back)

KNOBS = {"flush_time": 0.05, "blocks": 8}
"""


def outcomes(result: pytest.RunResult) -> dict[str, str]:
    """Test -> outcome, of a run with ``-v``."""
    rows = re.findall(r"^\S+?::(\S+) ([A-Z]+)", result.stdout.str(), re.MULTILINE)
    return dict(rows)


LOOKS = [
    "report.ok",
    "bool(report)",
    "str(report)",
    "f'{report}'",
    "report.verdicts",
    "report.not_judged",
    "report.disk",
    "report.result",
    "report.error",
    "report.elapsed",
    "report.calls",
    "report.history",
    "report.longest_stall",
    "report.sigkill_sent",
    "report.clean_up",
    "report.circumstances",
    "report.saved",
    "report.headline()",
    "report.check('outcome')",
    "report.ignore()",
]
NO_LOOKS = [
    "report",
    "repr(report)",
    "report.save(tmp_path)",
    "[report]",
    "report is None",
    "isinstance(report, int)",
]


def test_what_is_a_look(run_pytest: RunPytest) -> None:
    parts = [
        f"def test_{name}_{number}(gracekill, tmp_path):\n"
        f"    report = gracekill(kills, **KNOBS)\n    {expression}\n"
        for name, expressions in (("look", LOOKS), ("no", NO_LOOKS))
        for number, expression in enumerate(expressions)
    ]
    found = outcomes(run_pytest("\n".join((HEAD, *parts)), "-v", "--tb=no"))
    assert found == {
        **{f"test_look_{number}": "PASSED" for number in range(len(LOOKS))},
        **{f"test_no_{number}": "FAILED" for number in range(len(NO_LOOKS))},
    }


EXPLORED = [
    ("e.ok", "PASSED"),
    ("bool(e)", "PASSED"),
    ("str(e)", "PASSED"),
    ("e.status", "PASSED"),
    ("e.failure", "PASSED"),
    ("e.ignore()", "PASSED"),
    ("repr(e)", "FAILED"),
    ("e.save(tmp_path)", "FAILED"),
]


def test_explorations(run_pytest: RunPytest) -> None:
    parts = [
        f"def test_{number}(gracekill, tmp_path):\n    e = deadlocks(gracekill)\n    {expression}\n"
        for number, (expression, _) in enumerate(EXPLORED)
    ]
    kill = "def test_kill(gracekill):\n    gracekill.explore(kills, flush_time=0.2)\n"
    result = run_pytest("\n".join((HEAD, *parts, kill)), "-v", "--tb=short")
    assert outcomes(result) == {
        "test_kill": "FAILED",
        **{f"test_{number}": wanted for number, (_, wanted) in enumerate(EXPLORED)},
    }
    # the table, and the schedule with it
    result.stdout.re_match_lines([r"E +AssertionError: gracekill: DEADLOCK \(explored\)"])
    result.stdout.re_match_lines([r"E +pytest .*::test_6 --gracekill-replay="])


STYLES = """
def test_fine(gracekill):
    gracekill(stops, **KNOBS)

def test_second_of_two(gracekill):
    gracekill(kills, **KNOBS).ignore()
    gracekill(kills, **KNOBS)

def test_one_of_three(gracekill):
    for routine in (stops, kills, stops):
        report = gracekill(routine, **KNOBS)
    report.check()

def test_raises_its_own(gracekill):
    gracekill(kills, **KNOBS)
    raise LookupError("its own")

def test_skips(gracekill):
    gracekill(kills, **KNOBS)
    pytest.skip("not here")

@pytest.mark.xfail(strict=True)
def test_xfail_strict(gracekill):
    gracekill(kills, **KNOBS)

@pytest.mark.xfail(strict=True)
def test_xfail_strict_ignored(gracekill):
    gracekill(kills, **KNOBS).ignore()

@pytest.mark.xfail(strict=True, raises=AssertionError)
def test_xfail_raises(gracekill):
    gracekill(kills, **KNOBS)

def test_raises_around(gracekill):
    with pytest.raises(AssertionError):
        gracekill(kills, **KNOBS)

def test_raises_around_check(gracekill):
    with pytest.raises(AssertionError, match="DATA LOST"):
        gracekill(kills, **KNOBS).check()

@pytest.mark.parametrize("routine", [stops, kills])
def test_param(gracekill, routine):
    gracekill(routine, **KNOBS)

@pytest.fixture
def stopped(gracekill):
    return gracekill(kills, **KNOBS)

def test_of_a_fixture(stopped):
    pass

def test_of_a_fixture_checked(stopped):
    assert not stopped

@pytest.fixture
def fails_later(gracekill):
    gracekill(kills, **KNOBS)
    raise LookupError("in the set-up")

def test_set_up_fails(fails_later):
    pass

@pytest.fixture
def afterwards(gracekill):
    yield
    gracekill(kills, **KNOBS)

def test_clean_up_of_a_fixture(afterwards):
    pass

class TestCase(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _take(self, gracekill):
        self.gracekill = gracekill

    def test_case(self):
        self.gracekill(kills, **KNOBS)

    def test_case_fine(self):
        self.assertFalse(self.gracekill(kills, **KNOBS))

    def test_case_skips(self):
        self.gracekill(kills, **KNOBS)
        self.skipTest("not here")

    def test_case_fails(self):
        self.gracekill(kills, **KNOBS)
        raise LookupError("its own")

    @unittest.expectedFailure
    def test_case_expected(self):
        self.gracekill(kills, **KNOBS).check()
"""

STYLED = {
    "test_fine": "PASSED",
    "test_second_of_two": "FAILED",
    "test_one_of_three": "FAILED",
    "test_raises_its_own": "FAILED",
    "test_skips": "SKIPPED",
    "test_xfail_strict": "XFAIL",
    "test_xfail_strict_ignored": "FAILED",
    "test_xfail_raises": "XFAIL",
    "test_raises_around": "FAILED",
    "test_raises_around_check": "PASSED",
    "test_param[stops]": "PASSED",
    "test_param[kills]": "FAILED",
    "test_of_a_fixture": "FAILED",
    "test_of_a_fixture_checked": "PASSED",
    "test_set_up_fails": "ERROR",
    "test_clean_up_of_a_fixture": "ERROR",  # it has PASSED by then
    "TestCase::test_case": "FAILED",
    "TestCase::test_case_fine": "PASSED",
    "TestCase::test_case_skips": "SKIPPED",
    "TestCase::test_case_fails": "FAILED",
    "TestCase::test_case_expected": "XFAIL",
}


def test_every_style_of_test(run_pytest: RunPytest, pytester: pytest.Pytester) -> None:
    result = run_pytest(HEAD + STYLES, "-v", "--tb=short", "--junit-xml=j.xml")
    assert outcomes(result) == STYLED
    text = result.stdout.str()
    # a test's own failure is the one that is shown
    assert len(re.findall(r"^E +LookupError: its own$", text, re.MULTILINE)) == 2
    cases = ET.parse(pytester.path / "j.xml").getroot().iter("testcase")
    junit = {case.attrib["name"]: {child.tag for child in case} for case in cases}
    assert "failure" in junit["test_of_a_fixture"]
    assert not junit["test_of_a_fixture"] & {"error", "skipped"}
    assert "error" in junit["test_clean_up_of_a_fixture"]
    assert "failure" in junit["test_case"]


def test_the_failure_points_to_the_trial_and_shows_the_table(run_pytest: RunPytest) -> None:
    test = "\ndef test_it(gracekill):\n    gracekill(kills, **KNOBS)\n    print('and on')\n"
    # pytester strips the source's first, empty line
    line = (HEAD + test).splitlines().index("    gracekill(kills, **KNOBS)")
    result = run_pytest(HEAD + test, "--tb=short", "-n1")
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    place = f"test_the_failure_points_to_the_trial_and_shows_the_table.py:{line}"
    assert f"\n{place}: in test_it\n    gracekill(kills, **KNOBS)\nE   Ass" in text
    assert re.search(r"\nE   AssertionError: gracekill: DATA LOST .*, NEVER ASKED\n", text)
    assert len(re.findall(r"\nE +data +DATA LOST +", text)) == 1
    flat = re.sub(r"\s+(E\s+)?", " ", text)
    assert f"the test did not look at this report (run in {place}): call report.check()" in flat
    assert "plugin.py" not in text
    assert "looks.py" not in text


SUBTESTS = """
def test_within(gracekill, subtests):
    for routine in (stops, kills):
        with subtests.test(routine=routine):
            gracekill(routine, **KNOBS)

def test_checked_within(gracekill, subtests):
    for routine in (stops, kills):
        with subtests.test(routine=routine):
            gracekill(routine, **KNOBS).check()
"""


@pytest.mark.skipif(int(pytest.__version__.partition(".")[0]) < 9, reason="pytest 9 has subtests")
def test_subtests(run_pytest: RunPytest) -> None:
    result = run_pytest(HEAD + SUBTESTS, "-v", "--tb=short")
    text = result.stdout.str()
    assert re.search(r"::test_within FAILED", text)
    assert "did not look at this report" in text
    # what was checked in a subtest was looked at; the summary of a CI says it once more
    assert len(re.findall(r"^E +the test did not look at", text, re.MULTILINE)) == 1
