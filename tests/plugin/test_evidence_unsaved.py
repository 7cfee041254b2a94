"""Evidence that cannot be saved is a warning: the verdict is reported all the same."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill import saving

if TYPE_CHECKING:
    from conftest import RunPytest

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)

WRONG = """
def test_wrong(gracekill):
    gracekill(lambda popen: (popen.kill(), popen.wait()), flush_time=0.3).check()

def test_explored(gracekill):
    def setup():
        return []
    gracekill.explore_threads(setup, lambda state: 1 / 0).check()
"""
FULL = """
import errno
from pytest_gracekill.render import folder, index

def full(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device", "some file")

folder.write = index.page = full
index.entries = lambda root: [None]
"""


def check_verdicts_are_there(result: pytest.RunResult) -> None:
    result.assert_outcomes(failed=2, warnings=None)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines_random(
        [
            "*AssertionError: gracekill: DATA LOST*",
            "*ZeroDivisionError*",
        ]
    )
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    result.stdout.no_re_match_line(r"E +evidence: ")


@pytest.mark.parametrize(
    "more", [(), ("-n1",), ("-Werror",), ("-pno:warnings",)], ids=["alone", "xdist", "error", "off"]
)
def test_a_folder_that_cannot_be(run_pytest: RunPytest, more: tuple[str, ...]) -> None:
    result = run_pytest(WRONG, "--gracekill-save=/proc/nope", *more)
    check_verdicts_are_there(result)
    why = "no evidence can be saved in /proc/nope: No such file or directory"
    result.stdout.fnmatch_lines([f"gracekill: warning: {why} (from --gracekill-save)"])
    text = result.stdout.str()
    # in the table of the trial, in the text of the exploration, and in the summary of warnings
    assert text.count("the evidence could not be saved below /proc/nope: No such file or") >= 3


def test_a_file_in_the_place_of_the_folder(
    run_pytest: RunPytest, pytester: pytest.Pytester
) -> None:
    (pytester.path / "evidence").write_text("mine")
    check_verdicts_are_there(run_pytest(WRONG, "--gracekill-save=evidence"))
    assert (pytester.path / "evidence").read_text() == "mine"


@pytest.mark.parametrize("more", [(), ("-n1",)], ids=["alone", "xdist"])
def test_a_disk_that_gets_full(
    run_pytest: RunPytest, pytester: pytest.Pytester, more: tuple[str, ...]
) -> None:
    pytester.makeconftest(FULL)
    result = run_pytest(WRONG, "--gracekill-save=evidence", *more)
    check_verdicts_are_there(result)
    result.stdout.fnmatch_lines_random(
        [
            "*the evidence could not be saved below *evidence: No space left on device*",
            "*the index of the evidence below *evidence could not be saved: No space left*",
        ]
    )
    result.stdout.no_fnmatch_line("gracekill: warning: *")
    assert not list(pytester.path.rglob(".index.html.*"))


def test_the_look_leaves_nothing_and_takes_nothing_away(tmp_path: Path) -> None:
    assert saving.fault(tmp_path / "one" / "two") is None
    assert list(tmp_path.iterdir()) == []
    kept = tmp_path / "kept" / "already"
    kept.mkdir(parents=True)
    assert saving.fault(kept) is None
    assert saving.fault(kept / "more") is None
    assert list(tmp_path.rglob("*")) == [kept.parent, kept]


@pytest.mark.parametrize("folder", ["/proc/nope", "/dev/null", "/dev/null/below", "/sys/nope"])
def test_the_look_says_why(folder: str) -> None:
    assert saving.fault(Path(folder))
