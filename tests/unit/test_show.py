"""Saved evidence drawn again, and two runs compared: by the command, as somebody types it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill.render import folder
from pytest_gracekill.render.picture import picture_of
from pytest_gracekill.render.record import Step
from pytest_gracekill.show import main

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
SEED = ROOT / "tests" / "evidence" / "libvirt-0.9.10"
DRAWN = ("timeline.html", "timeline.svg", "trace.json")
EVIDENCE = ("history.jsonl", "report.json", "report.txt")


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    """The seed's evidence, to be written to; without its pictures."""
    made = tmp_path / "seed"
    made.mkdir()
    for name in EVIDENCE:
        shutil.copy(SEED / name, made / name)
    return made


@pytest.fixture
def mended(tmp_path: Path, seed: Path) -> Path:
    """The same trial where nothing is broken, and which takes longer."""
    made = tmp_path / "mended"
    shutil.copytree(seed, made)
    rows = json.loads((made / "report.json").read_text())
    rows |= {"headline": "gracekill: ok", "ok": True}
    rows["disk"] |= {"lost": []}
    for verdict in rows["verdicts"]:
        verdict |= {"status": "ok", "word": "ok", "also": [], "moments": []}
    rows["calls"][0]["returned_ns"] += 2_000_000_000
    (made / "report.json").write_text(json.dumps(rows))
    return made


def digests(folder_: Path) -> dict[str, str]:
    return {
        name: hashlib.sha256((folder_ / name).read_bytes()).hexdigest()
        for name in DRAWN
    }  # fmt: skip


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the command prints when it goes well."""
    assert main(["show", *map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that it says when it cannot."""
    assert main(["show", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


# -- drawn again


def test_evidence_is_drawn_again_and_is_what_it_was(
    capsys: pytest.CaptureFixture[str], seed: Path, tmp_path: Path
) -> None:
    told = shown(capsys, seed)
    assert told.startswith("gracekill: DATA LOST (22 of 64 blocks: 42-63), KILLED EARLY")
    assert "flushed 42 of 64 blocks" in told
    assert told.endswith(f"drawn: {seed / 'timeline.html'}\n")
    first = digests(seed)
    shown(capsys, seed)
    assert digests(seed) == first
    # to another place, and the evidence is left alone
    shutil.rmtree(tmp_path / "elsewhere", ignore_errors=True)
    shown(capsys, SEED, "--output", tmp_path / "elsewhere" / "deep")
    assert digests(tmp_path / "elsewhere" / "deep") == first


def others() -> list[str]:
    """Other Pythons that this machine has, each by its command."""
    found = []
    for minor in (11, 12, 13):
        name = f"python3.{minor}"
        homes = sorted((Path.home() / ".pyenv" / "versions").glob(f"3.{minor}.*/bin/{name}"))
        # the real ones first: a shim runs only what is chosen
        path = next(map(str, homes), None) or shutil.which(name)
        if path is not None and sys.version_info[1] != minor:
            found.append(path)
    return found


@pytest.mark.skipif(not others(), reason="there is no other Python on this machine")
def test_another_python_draws_the_identical_picture(
    capsys: pytest.CaptureFixture[str], seed: Path, tmp_path: Path
) -> None:
    told = shown(capsys, seed)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"PYTHONIOENCODING": sys.stdout.encoding or "utf-8"}
    for number, python in enumerate(others()):
        to = tmp_path / str(number)
        command = [python, "-m", "pytest_gracekill", "show", str(seed), "--output", str(to)]
        done = subprocess.run(
            command,
            env=environment,
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert digests(to) == digests(seed), python
        assert done.stdout.splitlines()[:-1] == told.splitlines()[:-1]


def test_all_evidence_below_a_folder_is_drawn_with_its_index(
    capsys: pytest.CaptureFixture[str], seed: Path, mended: Path
) -> None:
    told = shown(capsys, seed.parent)
    assert [line for line in told.splitlines() if line.startswith("gracekill: ok")]
    for each in (seed, mended):
        assert all((each / name).is_file() for name in DRAWN)
        assert f"drawn: {each / 'timeline.html'}" in told
    index = (seed.parent / "index.html").read_text(encoding="utf-8")
    assert "2 trials, 1 not ok" in index


def test_a_history_without_a_report_is_drawn_too(
    capsys: pytest.CaptureFixture[str], seed: Path
) -> None:
    (seed / "report.json").unlink()
    assert "flushed 42 of 64 blocks" in shown(capsys, seed)


# -- compared


def test_two_runs_are_compared_on_one_scale(
    capsys: pytest.CaptureFixture[str], seed: Path, mended: Path
) -> None:
    told = shown(capsys, seed, mended)
    before, after = (
        [line for line in told.splitlines() if line.startswith(start)]
        for start in ("before (", "after (")
    )
    words = "DATA LOST (22 of 64 blocks: 42-63), KILLED EARLY, HELD OVER WAIT, STALLED"
    assert before == [f"before ({seed}): gracekill: {words}"]
    assert after == [f"after ({mended}): gracekill: ok"]
    # the same moment is in the same column
    lines = told.splitlines()
    axes = [line for line in lines if re.match(r" +t\+0 ", line)]
    assert len(axes) == 2
    assert axes[0] == axes[1]
    # up to the end of the longer one
    assert "t+3" in axes[0]
    signals = [line for line in lines if line.startswith("signals")]
    assert signals[0] == signals[1]
    changed = told.partition("changed:\n")[2].splitlines()
    assert changed[:4] == [
        "  data        DATA LOST -> ok",
        "  escalation  KILLED EARLY -> ok",
        "  locks       HELD OVER WAIT -> ok",
        "  progress    STALLED -> ok",
    ]


def test_the_page_of_two_has_both_on_one_scale_and_asks_nobody(
    capsys: pytest.CaptureFixture[str], seed: Path, mended: Path
) -> None:
    shown(capsys, seed, mended)
    page = (mended / "comparison.html").read_text(encoding="utf-8")
    drawn = re.findall(r"<svg .*?</svg>", page, re.DOTALL)
    assert len(drawn) == 2
    roots = [ET.fromstring(svg.replace("<svg ", '<svg xmlns="x" ', 1)) for svg in drawn]
    assert roots[0].get("data-knots") == roots[1].get("data-knots")
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert "DATA LOST" in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    assert "<script" not in page
    assert len(page.encode()) < 500_000


def test_nothing_has_changed(capsys: pytest.CaptureFixture[str], seed: Path) -> None:
    assert "no verdict has changed" in shown(capsys, seed, seed)


def test_a_trial_and_an_explored_schedule_have_no_scale_in_common(
    capsys: pytest.CaptureFixture[str], seed: Path, mended: Path
) -> None:
    rows = json.loads((mended / "report.json").read_text())
    at_ns = rows["calls"][0]["called_ns"]
    rows |= {"clock": "virtual", "steps": [
        {"number": 1, "task": "MainThread", "operation": "begins", "line": "", "at_ns": at_ns}
    ]}  # fmt: skip
    (mended / "report.json").write_text(json.dumps(rows))
    assert isinstance(folder.load(mended).record.steps[0], Step)
    for pair in ((seed, mended), (mended, seed)):
        told = refused(capsys, *pair)
        assert f"{mended} is an explored schedule" in told
        assert "no time scale in common" in told


def test_folders_over_many_trials_are_compared_one_trial_of_each(
    capsys: pytest.CaptureFixture[str], seed: Path, mended: Path, tmp_path: Path
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    for trial in ("test_a.py/test_one/trial-1", "test_a.py/test_two/trial-1"):
        shutil.copytree(seed, before / trial)
    shutil.copytree(mended, after / "test_a.py" / "test_two" / "trial-1")
    told = refused(capsys, before, after)
    pair = [before / "test_a.py/test_two/trial-1", after / "test_a.py/test_two/trial-1"]
    assert told == (
        f"gracekill: {before} is a folder over 2 trials; two trials are compared, so name one of"
        f" each: show {pair[0]} {pair[1]}\n"
    )
    # what it says can be typed
    assert "changed:" in shown(capsys, *pair)
    # only one of the two, and none in common
    assert f"{after} is a folder over 1 trial;" in refused(capsys, seed, after)
    assert f"show {seed} {pair[1]}\n" in refused(capsys, seed, after)


def test_a_run_in_which_all_went_well_was_not_saved(
    capsys: pytest.CaptureFixture[str], seed: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'after'} is no folder: no evidence" in refused(
        capsys, seed, tmp_path / "after"
    )
    told = refused(capsys, seed, tmp_path / "empty")
    assert f"{tmp_path / 'empty'} has no history.jsonl" in told
    assert "--gracekill-save=DIR=all" in told


# -- what it cannot draw


def test_a_foreign_folder_is_one_clear_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_bytes(b"\xff\xd8")
    missing = tmp_path / "missing"
    assert refused(capsys, tmp_path / "photos") == (
        f"gracekill: {tmp_path / 'photos'} has no history.jsonl: no evidence of a trial was saved"
        " there\n"
    )
    assert f"{missing} is no folder" in refused(capsys, missing)
    assert f"{tmp_path / 'photos' / 'me.jpg'} is no folder" in refused(
        capsys, tmp_path / "photos" / "me.jpg"
    )
    assert not (missing).exists()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("history.jsonl", lambda data: data[: len(data) // 2]),
        ("history.jsonl", lambda _: b""),
        ("history.jsonl", lambda _: b"\x00\xff\xfe"),
        ("history.jsonl", lambda data: data.replace(b'"version": 1', b'"version": 9', 1)),
        ("history.jsonl", lambda data: data.replace(b"gracekill-history", b"something", 1)),
        ("report.json", lambda data: data[:-20]),
        ("report.json", lambda _: b"[]"),
        ("report.json", lambda data: data.replace(b'"version": 1', b'"version": 9', 1)),
        ("report.json", lambda data: data.replace(b'"verdicts"', b'"opinions"', 1)),
        ("report.json", lambda data: data.replace(b'"at_ns": ', b'"at_ns": "x', 1)),
    ],
)
def test_damaged_evidence_is_one_clear_error_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str],
    seed: Path,
    mended: Path,
    name: str,
    damage: Callable[[bytes], bytes],
) -> None:
    path = seed / name
    path.write_bytes(damage(path.read_bytes()))
    for arguments in ((seed,), (seed.parent,), (mended, seed)):
        told = refused(capsys, *arguments)
        assert str(path) in told
    assert not any((each / file).exists() for each in (seed, mended) for file in DRAWN)


def test_where_it_cannot_write_it_says_so(capsys: pytest.CaptureFixture[str], seed: Path) -> None:
    taken = seed / "report.txt" / "below"
    assert main(["show", str(seed), "--output", str(taken)]) == 2
    assert "cannot be written to" in capsys.readouterr().err


WRONG_VALUES: tuple[object, ...] = (
    None,
    -1,
    10**30,
    1.5,
    "x",
    "",
    [],
    [1],
    [[1, "x"]],
    {},
    {"a": 1},
    True,
)


def test_whatever_an_event_has_in_it_there_is_a_picture_or_one_error(
    capsys: pytest.CaptureFixture[str], seed: Path
) -> None:
    """Each field of an event of each kind, and each thing that could stand there instead."""
    history = seed / "history.jsonl"
    header, *lines = history.read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    # few enough that each is quickly drawn, and each kind is among them
    kept = [next(e for e in events if e["kind"] == kind) for kind in {e["kind"] for e in events}]
    kept.sort(key=lambda event: event["ns"])
    drawn = 0
    for place, event in enumerate(kept):
        for name in event["fields"]:
            for value in WRONG_VALUES:
                changed = {**event, "fields": {**event["fields"], name: value}}
                rows = [*kept[:place], changed, *kept[place + 1 :]]
                text = "\n".join([header, *map(json.dumps, rows)]) + "\n"
                history.write_text(text, encoding="utf-8")
                status = main(["show", str(seed)])
                out, err = capsys.readouterr()
                assert (status, err) == (0, "") or (status == 2 and err.count("\n") == 1)
                assert (out == "") is (status == 2)
                drawn += status == 0
    assert drawn > 100


def test_the_command_is_what_is_said(seed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_gracekill", "show", "nothing"],
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "gracekill: nothing is no folder: no evidence of a trial was saved there\n"
    )
    assert picture_of(folder.load(seed)).events > 0
