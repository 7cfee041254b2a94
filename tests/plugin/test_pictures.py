"""Where the picture shows up: beside the evidence, in the index, in the failure, in pytest-html."""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill.render import folder
from pytest_gracekill.render.page import html
from pytest_gracekill.render.picture import picture_of

if TYPE_CHECKING:
    from conftest import RunPytest

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)

WRONG_AND_RIGHT = """
from pytest_gracekill import KillFlags, KillPolicy

def trial(gracekill, grace):
    policy = KillPolicy(grace=grace, reap=2)
    gracekill(flush_time=1.2, policy=policy, flags=KillFlags.FORCE, contenders=2).check()

def test_wrong(gracekill):
    trial(gracekill, 0.4)

def test_wrong_elsewhere(gracekill, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    trial(gracekill, 0.4)

def test_right(gracekill):
    trial(gracekill, 5.0)
"""
FILES = ["history.jsonl", "report.json", "report.txt", "timeline.html", "timeline.svg"]
FILES += ["trace.json"]


def trials(root: Path) -> dict[str, Path]:
    """The folders of evidence by the names of their tests."""
    return {path.parent.parent.name: path.parent for path in root.rglob("history.jsonl")}


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_each_failing_trial_has_its_picture_and_all_have_an_index(
    run_pytest: RunPytest, pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    result = run_pytest(WRONG_AND_RIGHT, "--gracekill-save=evidence", *workers)
    result.assert_outcomes(failed=2, passed=1)
    root = pytester.path / "evidence"
    found = trials(root)
    # also of the test that has gone elsewhere
    assert set(found) == {"test_wrong", "test_wrong_elsewhere"}
    for path in found.values():
        assert set(FILES) <= {file.name for file in path.iterdir()}
        assert "could not be drawn" not in (path / "timeline.html").read_text(encoding="utf-8")
    named = re.findall(r"^E +evidence: (.*)$", result.stdout.str(), re.MULTILINE)
    assert {(pytester.path / name).resolve() for name in named} == {
        (path / "timeline.html").resolve() for path in found.values()
    }
    index = (root / "index.html").read_text(encoding="utf-8")
    links = re.findall(r'<a href="([^"]+)">([^<]+)</a>', index)
    assert [(root / link).is_file() for link, _ in links] == [True, True]
    assert [name.rpartition("::")[2] for _, name in links] == ["test_wrong", "test_wrong_elsewhere"]
    assert "2 trials, 2 not ok" in index
    assert [path.name for path in root.iterdir() if path.is_file()] == ["index.html"]


@pytest.mark.parametrize(
    ("said", "where"), [("evidence=all", "evidence"), ("all", "gracekill-evidence")]
)
def test_all_saves_what_went_well_too(
    run_pytest: RunPytest, pytester: pytest.Pytester, said: str, where: str
) -> None:
    run_pytest(WRONG_AND_RIGHT, f"--gracekill-save={said}", "-k", "not elsewhere")
    found = trials(pytester.path / where)
    assert set(found) == {"test_wrong", "test_right"}
    index = (pytester.path / where / "index.html").read_text(encoding="utf-8")
    assert "2 trials, 1 not ok" in index
    # what went wrong comes first
    assert index.index("::test_wrong") < index.index("::test_right")
    # and what was written is what is drawn of it again
    for path in found.values():
        drawn = html(picture_of(folder.load(path)))
        assert (path / "timeline.html").read_text(encoding="utf-8") == drawn


def test_the_page_tells_of_a_real_trial(run_pytest: RunPytest, pytester: pytest.Pytester) -> None:
    run_pytest(WRONG_AND_RIGHT, "--gracekill-save=evidence", "-k", "wrong and not elsewhere")
    (path,) = trials(pytester.path / "evidence").values()
    picture = picture_of(folder.load(path))
    assert picture.title.endswith("::test_wrong")
    kinds = {lane.key: {span.kind for span in lane.spans} for lane in picture.lanes}
    assert {"ready", "flushing", "lost", "gone"} <= kinds["fake"]
    # where the routine stood, by the looks at it
    assert {"call", "stands"} <= kinds["routine"]
    contenders = [lane for lane in picture.lanes if lane.kind == "contender"]
    assert [lane.name for lane in contenders] == ["other-1", "same-1"]
    assert all(lane.density is not None and lane.density.total > 10 for lane in contenders)
    points = {point.word: point.lane for found in picture.findings for point in found.points}
    assert points == {"DATA LOST": "fake", "KILLED EARLY": "signals"}


def test_without_evidence_there_is_no_index(
    run_pytest: RunPytest, pytester: pytest.Pytester
) -> None:
    run_pytest(WRONG_AND_RIGHT, "--gracekill-save=evidence", "-k", "right").assert_outcomes(
        passed=1
    )
    assert not (pytester.path / "evidence").exists()


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_pytest_html_gets_the_picture(
    run_pytest: RunPytest, pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    pytest.importorskip("pytest_html")
    more = ("--html=report.html", "--self-contained-html", "-k", "not elsewhere", *workers)
    run_pytest(WRONG_AND_RIGHT, *more).assert_outcomes(failed=1, passed=1)
    report = (pytester.path / "report.html").read_text(encoding="utf-8")
    pictures = re.findall(r"data:image/svg\+xml;base64,([\w+/=]+)", report)
    assert len(pictures) == 1
    assert b"LOST: blocks" in base64.b64decode(pictures[0])
