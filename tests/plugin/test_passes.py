"""What a pass says of itself: what was not judged, and how much of a promise was tested."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import RunPytest

    from pytest_gracekill.fixtures import Judge

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)

TESTS = """
import pytest

def stops(popen):
    popen.terminate()
    popen.wait()

def test_alone(gracekill):
    gracekill(stops, flush_time=0.05).check()

def test_promises(gracekill):
    gracekill(stops, flush_time=0.05, linger=0.05, survive=10).check()

def test_nothing():
    pass

def test_fails(gracekill):
    gracekill(stops, flush_time=0.05, survive=9).check()
    raise LookupError
"""

TITLE = "gracekill: what tests that passed have left open"


@pytest.mark.parametrize("arguments", [("-v",), ("-rA",), ("-rP",), ("-v", "-n2")])
def test_it_is_told(run_pytest: RunPytest, arguments: tuple[str, ...]) -> None:
    result = run_pytest(TESTS, *arguments)
    result.assert_outcomes(passed=3, failed=1)
    text = " ".join(result.stdout.str().split())
    (summary,) = re.findall(rf"= {TITLE} =+ (.*?) ===", text)
    name = "test_it_is_told.py::test"
    for line in (
        "not judged: deadlock, locks (no locks were handed in): 2 tests, such as {}_alone",
        "not judged: progress (no contenders took part): 2 tests, such as {}_alone",
        "not judged: identity (the routine takes no driver): 2 tests, such as {}_alone",
        "this trial tested 0.1 s of it (flush_time=0.05, linger=0.05): {}_promises",
    ):
        assert line.format(name) in summary
    assert "9 s promised" not in summary
    # the whole table of each that passed
    assert ("- gracekill - gracekill: ok data ok" in re.sub("-+", "-", text)) == (
        arguments[0] != "-v"
    )


def test_it_is_not_told_to_who_asks_for_less(run_pytest: RunPytest) -> None:
    for arguments in ((), ("-q",), ("-rfs",)):
        text = run_pytest(TESTS, *arguments).stdout.str()
        assert "left open" not in text
        assert "10 s promised" not in text


def test_nothing_is_told_where_everything_was_judged(run_pytest: RunPytest) -> None:
    source = "def test_all(gracekill): gracekill(flush_time=0.05, flags=1).check()"
    text = run_pytest(source, "-rP").stdout.str()
    assert "gracekill: ok" in text
    assert "left open" not in text


def stops(popen: object) -> None:
    popen.terminate()  # type: ignore[attr-defined] # a Popen
    popen.wait()  # type: ignore[attr-defined] # as above


@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        (
            {"flush_time": 0.05, "survive": 10},
            "survive: 10 s promised; this trial tested 0.05 s of it (flush_time=0.05)",
        ),
        ({"flush_time": 0.1, "survive": 0.1}, ""),
        ({"flush_time": 0.1}, ""),
        ({"flush_time": 0.1, "survive": 0.0}, ""),
    ],
)
def test_how_much_of_a_promise_was_tested(
    gracekill: Judge, arguments: dict[str, float], note: str
) -> None:
    report = gracekill(stops, **arguments)  # type: ignore[arg-type] # some of them
    report.check()
    assert report.notes == ((note,) if note else ())
    assert note in str(report)


def test_a_flush_that_never_ends_tests_all_of_it(gracekill: Judge) -> None:
    def stop(popen: object) -> None:
        popen.terminate()  # type: ignore[attr-defined] # a Popen
        try:
            popen.wait(0.6)  # type: ignore[attr-defined] # as above
        except Exception:  # noqa: BLE001 - its time-out
            popen.kill()  # type: ignore[attr-defined] # as above
            popen.wait()  # type: ignore[attr-defined] # as above

    assert gracekill(stop, on_term="ignore", survive=0.5).notes == ()
