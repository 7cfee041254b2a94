"""Results, exceptions and outputs that are hostile to whoever shows them: told, never raised."""

from __future__ import annotations

import asyncio
import os
import re
import select
import signal
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gracekill import External

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import RunPytest

    from pytest_gracekill.fixtures import Judge

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)


def stopped(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        assert select.select([pidfd], [], [], 20)[0]
    finally:
        os.close(pidfd)


def refuse(name: str) -> Any:
    def raising(_self: object, *_: object) -> Any:
        raise RuntimeError(f"no {name}")

    return raising


def with_property(name: str) -> object:
    return type("Result", (), {name: property(refuse(name))})()


#: Made late: pytest looks at its parameters.
RESULTS: dict[str, Callable[[], object]] = {
    "dead": lambda: with_property("dead"),
    "signal": lambda: with_property("signal"),
    "errno": lambda: with_property("errno"),
    "class": lambda: with_property("__class__"),
    "text": type("Result", (), {"__repr__": refuse("text")}),
    "truth": type("Result", (), {"__bool__": refuse("truth"), "__eq__": refuse("equal")}),
    "huge": type("Result", (), {"__str__": lambda _: "x" * 10_000_000}),
    "any": type("Result", (), {"__getattr__": lambda *_: 0}),
}


def returning(result: object) -> Callable[..., object]:
    def stop(pid: int) -> object:
        stopped(pid)
        return result

    return stop


def returning_later(result: object) -> Callable[..., object]:
    async def stop(pid: int) -> object:
        await asyncio.to_thread(stopped, pid)
        return result

    return stop


forms = pytest.mark.parametrize("form", [returning, returning_later])


@forms
def test_a_result_whose_claim_cannot_be_read_is_unknown(
    gracekill: Judge, form: Callable[..., Any]
) -> None:
    report = gracekill(form(with_property("ok")), flush_time=0.05)
    outcome = report.verdicts["outcome"]
    assert outcome.status == "unknown"
    assert "(its .ok raised RuntimeError: no ok); the VM is dead" in outcome.evidence
    assert "succeeded=" in str(report)
    with pytest.raises(AssertionError, match="UNKNOWN outcome"):
        report.check()
    gracekill(form(with_property("ok")), flush_time=0.05, succeeded=lambda _: True).check()


@forms
@pytest.mark.parametrize("name", RESULTS)
def test_a_result_that_is_none_of_ours_is_a_success(
    gracekill: Judge, form: Callable[..., Any], name: str
) -> None:
    result = RESULTS[name]()
    report = gracekill(form(result), flush_time=0.05)
    report.check()
    assert report.result is result
    assert len(str(report)) < 10_000


class SpokenError(Exception):
    """Raises for its text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class FalseError(Exception):
    """Is false, as an empty collection of errors is."""

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SpokenError(), "raised SpokenError: <SpokenError whose text raises RuntimeError>"),
        (FalseError("odd"), "raised FalseError: odd"),
        (ValueError("x" * 10_000_000), "9,999,000 more characters"),
        (ValueError("\x1b]0;owned\x07\x1b[2J"), r"raised ValueError: \x1b]0;owned\x07\x1b[2J"),
        (ValueError("\udcff"), r"raised ValueError: \udcff"),
    ],
    ids=["text", "false", "huge", "control", "surrogate"],
)
def test_exceptions(gracekill: Judge, error: Exception, text: str) -> None:
    def stop(pid: int) -> None:
        stopped(pid)
        raise error

    report = gracekill(stop, flush_time=0.05)
    assert report.error is error
    assert text in report.verdicts["outcome"].evidence
    assert len(str(report)) < 10_000


CONTROL = """
import subprocess, pytest
from pytest_gracekill import External

EVIL = "\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202e\\r\\x08\\udcff"

def raises(popen):
    popen.terminate()
    popen.wait()
    raise RuntimeError(EVIL)

def returns(popen):
    popen.kill()
    popen.wait()
    return EVIL

async def cancelled(popen):
    popen.kill()
    popen.wait()
    raise BaseExceptionGroup(EVIL, [ValueError(EVIL)])

def contends():
    raise RuntimeError(EVIL)

def good(popen):
    popen.terminate()
    popen.wait()

SAYS = "printf '\\\\033]0;owned\\\\007\\\\033[2J\\\\r\\\\010' >&2; kill -9 {pid}; exit 3"

@pytest.mark.parametrize("routine", [raises, returns, cancelled])
def test_routine(gracekill, routine):
    gracekill(routine, flush_time=0.1).check()

def test_contender(gracekill):
    gracekill(good, flush_time=0.4, contend=[contends]).check()

def test_command(gracekill):
    gracekill(External(stop=["sh", "-c", SAYS]), flush_time=0.1).check()

def test_explored(gracekill):
    def body(state):
        raise RuntimeError(EVIL)
    gracekill.explore_threads(object, body, body).check()

def test_unlooked(gracekill):
    gracekill(raises, flush_time=0.1)
"""

UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")


def test_control_characters_reach_neither_terminal_nor_files(
    run_pytest: RunPytest, pytester: pytest.Pytester
) -> None:
    result = run_pytest(
        CONTROL, "-v", "--tb=short", "--junit-xml=j.xml", "--gracekill-save=evidence", "-rA"
    )
    result.assert_outcomes(failed=7)
    found = [line for line in result.outlines if UNFIT.search(line)]
    assert not found
    assert result.stdout.str().count(r"\x1b]0;owned\x07\x1b[2J") >= 7
    ET.parse(pytester.path / "j.xml")
    saved = [path for path in (pytester.path / "evidence").rglob("*") if path.is_file()]
    assert len(saved) > 30
    for path in saved:
        assert not UNFIT.search(path.read_text(encoding="utf-8")), path
        if path.suffix == ".svg":
            ET.parse(path)


def test_a_command_that_prints_control_characters(gracekill: Judge) -> None:
    says = r"printf '\033[31mred\033[0m\a'; kill -9 {pid}; exit 3"
    report = gracekill(External(stop=["sh", "-c", says]), flush_time=0.1)
    assert r"\x1b[31mred" in str(report)
    assert not UNFIT.search(str(report))
