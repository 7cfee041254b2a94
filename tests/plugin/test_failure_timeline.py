"""The timeline in the text of a failure: with -v, or where asked for, in the terminal's signs."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import RunPytest

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)

WRONG = """
from pytest_gracekill import KillFlags, KillPolicy

def test_wrong(gracekill):
    policy = KillPolicy(grace=0.2, reap=2)
    gracekill(flush_time=0.6, policy=policy, flags=KillFlags.FORCE, contenders=1).check()
"""
EXPLORED = """
from pytest_gracekill import KillFlags, LIBVIRT_0_9_11

def test_seed(gracekill):
    gracekill.explore(flags=KillFlags.FORCE, policy=LIBVIRT_0_9_11, contenders="same").check()
"""
HEAD = "gracekill timeline"


def timeline(text: str) -> list[str]:
    """The lines of the timeline in what pytest has printed; none where there is none."""
    lines = text.splitlines()
    begin = next((n for n, line in enumerate(lines) if f" {HEAD} " in line), None)
    if begin is None:
        return []
    end = next(
        n for n in range(begin + 1, len(lines)) if re.match(r"[-=_]{3}|- generated", lines[n])
    )
    return lines[begin + 1 : end]


@pytest.mark.parametrize("asked", ["-v", "--gracekill-timeline"])
def test_a_failure_has_its_timeline(
    run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    lines = timeline(run_pytest(WRONG, asked).stdout.str())
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 100
    assert lines[1].split() == ["12"]
    rows = {line[:16].rstrip(): line[17:] for line in lines}
    assert re.search(r"=+ (flushed )?\d+ of 64( blocks)? =+\| lost: blocks \d+-63 x", rows["VM"])
    assert re.fullmatch(r" *\|SIGTERM +\|SIGKILL", rows["signals"])
    assert {"the routine", "lock driver", "lock domain vm", "other-1"} <= rows.keys()
    assert [line[:2] for line in lines if re.match(r"\d t", line)] == ["1 ", "2 "]
    assert "\n".join(lines).isascii()


def test_without_being_asked_for_there_is_none(run_pytest: RunPytest) -> None:
    assert timeline(run_pytest(WRONG).stdout.str()) == []


def test_it_comes_from_a_worker_in_the_signs_of_the_terminal_and_ends_with_the_file(
    run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    more = ("--gracekill-timeline", "--gracekill-save=evidence", "-n1", "--junitxml=junit.xml")
    lines = timeline(run_pytest(WRONG, *more).stdout.str())
    assert "\N{DARK SHADE}" in next(line for line in lines if line.startswith("VM"))
    assert lines[-1].startswith("evidence: ")
    assert lines[-1].endswith("/timeline.html")


def test_an_explored_failure_is_drawn_and_saved_with_its_text(
    run_pytest: RunPytest, pytester: pytest.Pytester
) -> None:
    result = run_pytest(EXPLORED, "--gracekill-timeline", "--gracekill-save=evidence")
    lines = timeline(result.stdout.str())
    rows = {line[:16].rstrip(): line[17:] for line in lines}
    assert "stood still 1.000 s for domain vm" in rows["same-1"]
    (saved,) = (pytester.path / "evidence").rglob("exploration.txt")
    told = saved.read_text(encoding="utf-8")
    assert re.search(r"^ +1  t\+0\.000  ", told, re.MULTILINE)
    token = re.search(r"--gracekill-replay=(\S+)", told)
    assert token is not None
    assert f"--gracekill-replay={token[1]}" in result.stdout.str()
    # beside the same files that a trial has, in virtual time
    names = {path.name for path in saved.parent.iterdir()}
    assert {"history.jsonl", "report.json", "timeline.html", "timeline.svg", "trace.json"} <= names
    page = (saved.parent / "timeline.html").read_text(encoding="utf-8")
    assert "virtual time" in page
    assert token[1] in page


KILLED_WHEN_EXPLORED = """
import os, signal, time

def stop(pid):
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    os.kill(pid, 0)
    os.kill(pid, signal.SIGKILL)
    return True

def test_stop(gracekill):
    gracekill.explore(stop, flush_time=2.0).check()
"""


def test_an_explored_vm_that_is_killed_has_an_end_and_what_it_lost(
    run_pytest: RunPytest, pytester: pytest.Pytester
) -> None:
    run_pytest(KILLED_WHEN_EXPLORED, "--gracekill-save=evidence")
    (saved,) = (pytester.path / "evidence").rglob("exploration.txt")
    story = (saved.parent / "history.jsonl").read_text(encoding="utf-8").splitlines()
    (gone,) = [row for line in story if (row := json.loads(line)).get("kind") == "gone"]
    assert gone["t"] == pytest.approx(1.0)
    assert gone["fields"] == {"code": None, "signal": 9, "by_trial": False}
    page = (saved.parent / "timeline.html").read_text(encoding="utf-8")
    assert "It was killed at t+1.000, with 32 of 64 blocks written" in page
    assert "32 of 64 blocks on disk, ended by SIGKILL t+1.000" in page
    assert "it still runs" not in page
    # the look of the same instant, just before, does not end it
    trace = json.loads((saved.parent / "trace.json").read_text(encoding="utf-8"))
    at = {event["name"]: event["ts"] for event in trace["traceEvents"] if event["ph"] == "i"}
    assert at["SIGKILL"] <= at["ended by SIGKILL"]
    assert any(event.get("cat") == "fake,lost" for event in trace["traceEvents"])
