"""The progress line: on a terminal, while something takes long, and nowhere else."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import RunPytest

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)

from screen import Screen, run  # a pseudo-terminal: not on every platform

SLOW = """
import sys
from pytest_gracekill import KillFlags

def test_quick(gracekill):
    gracekill(flush_time=0.1, flags=KillFlags.FORCE, contenders=0).check()

def test_slow(gracekill):
    print("printed by the test", flush=True)
    gracekill(flush_time=2.8, flags=KillFlags.FORCE, contenders=0).check()
"""
SEARCH = """
from pytest_gracekill import KillFlags

def test_search(gracekill):
    kinds = ("same", "other", "list", "define", "eof")
    gracekill.explore(flags=KillFlags.FORCE, contenders=kinds, seconds=3.5).ignore()
"""
LINE = "gracekill: "


def on_terminal(folder: Path, source: str, *arguments: str) -> tuple[Screen, str]:
    """Run pytest on a terminal."""
    (folder / "test_it.py").write_text(source, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider"]
    command += ["-p", "no:xprocess", "-p", "no:labgrid", "--color=no", *arguments]
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "COLUMNS", "LINES")}
    environment |= {"TERM": "xterm"}
    return run(command, folder, environment, within=60)


def lines_of(screen: Screen) -> list[str]:
    """What the line has said."""
    return [line for line in screen.seen if line.startswith(LINE)]


@pytest.mark.parametrize("capture", ["-q", "-s"])
def test_a_trial_tells_phase_flush_and_when_it_is_cut_off_and_leaves_nothing(
    tmp_path: Path, capture: str
) -> None:
    screen, _ = on_terminal(tmp_path, SLOW, capture)
    told = lines_of(screen)
    assert told
    pattern = r"gracekill: the routine runs, flushed (\d+) of 64 blocks, cut off in (\d+) s"
    running = [match for line in told if (match := re.fullmatch(pattern, line))]
    assert running
    flushed = [int(match[1]) for match in running]
    assert flushed == sorted(flushed)
    assert 30 < flushed[-1] <= 64
    # not one of its letters is left, and pytest's own are where they would be
    assert LINE not in screen.text.replace("gracekill: Warning", "")
    assert "blocks" not in screen.text
    if capture == "-s":
        assert re.search(r"^test_it\.py \.printed by the test$", screen.text, re.MULTILINE)
        assert re.search(r"^\.$", screen.text, re.MULTILINE)
    else:
        assert re.search(r"^\.\. +\[100%\]$", screen.text, re.MULTILINE)


def test_an_exploration_tells_schedules_rate_bound_and_time_left(tmp_path: Path) -> None:
    screen, _ = on_terminal(tmp_path, SEARCH, "-q")
    pattern = (
        r"gracekill: explores, clock (?:jump|explore), \d+ schedules, \d+/s, \d s left"
        r"(?:, every one with \d preemptions? or less)?"
    )
    told = lines_of(screen)
    assert told
    assert all(re.fullmatch(pattern, line) for line in told), told
    assert re.search(r"^\. +\[100%\]$", screen.text, re.MULTILINE)
    assert LINE not in screen.text


def test_the_suite_tells_how_many_cases_are_done(tmp_path: Path) -> None:
    suite = (
        "--pyargs",
        "pytest_gracekill.conformance",
        "-k",
        "nearly or within",
        "--gracekill-survive=2.5",
    )
    screen, _ = on_terminal(tmp_path, "", "-q", *suite)
    told = lines_of(screen)
    assert any(
        re.match(r"gracekill: \d+ of \d+ cases done, \w+; the routine runs", t) for t in told
    )
    assert "cases done" not in screen.text


@pytest.mark.parametrize(
    "arguments", [("-n1",), ("--junitxml=junit.xml", "-o", "log_cli=true")], ids=["xdist", "logs"]
)
def test_where_others_write_to_the_terminal_there_is_none(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    screen, written = on_terminal(tmp_path, SLOW, "-q", *arguments)
    assert "2 passed" in screen.text
    assert "\x1b8" not in written
    assert "blocks" not in written


def test_where_output_goes_to_a_pipe_there_is_none(run_pytest: RunPytest) -> None:
    result = run_pytest(SLOW, "--junitxml=junit.xml", "-q")
    result.assert_outcomes(passed=2)
    assert "\x1b" not in result.stdout.str() + result.stderr.str()
    assert "blocks" not in result.stdout.str() + result.stderr.str()
