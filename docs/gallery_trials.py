"""Takes the pictures of the gallery: run by gallery.py, under pytest for its fixtures.

A picture shows what it is there for and nothing else, so a trial that the machine has disturbed, or
whose threads did not meet, is run again.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from docs import flaws, gallery_pages  # noqa: E402 - see above
from docs.exhibits import EXHIBITS, FOLDER, SCENES  # noqa: E402
from pytest_gracekill import KillFlags  # noqa: E402
from pytest_gracekill.render.folder import PICTURE  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gracekill import Report
    from pytest_gracekill.fixtures import Judge, StartFake

_ATTEMPTS = 20
#: What a reader can open beside the page that it stands on; larger would be slow.
_LARGEST = 60_000
#: What is left of such a folder.
_ELSEWHERE = re.compile(r"/(?:tmp|root|home|work|usr|opt)/")
#: The folders of the machine that the pictures were taken on.
_PLACES = re.compile(
    r"/[^\s<>\"'();,]*?/((?:tests/flaws|docs/specimens|pytest_gracekill|python3\.\d+)/)"
)


@pytest.mark.parametrize("word", EXHIBITS)
def test_exhibit(gracekill: Judge, fake_qemu: StartFake, tmp_path: Path, word: str) -> None:
    specimen = flaws.load(ROOT / EXHIBITS[word].wrong)
    expected = {*specimen.caught, *EXHIBITS[word].beside}

    def shows(report: Report) -> bool:
        broken = {v.name: v for v in report.verdicts.values() if v.status != "ok"}
        said = {moment.word for verdict in broken.values() for moment in verdict.moments}
        if word == "LOCK ORDER" and "DEADLOCK" in said:
            return False  # it has a page of its own
        starved = any("starved" in verdict.evidence for verdict in report.verdicts.values())
        return word in said and set(broken) == expected and not starved

    report = _until(lambda: specimen.run(gracekill, fake_qemu), shows)
    # before it is saved: where that was is nobody's business
    text = _neutral(str(report))
    _take(report, tmp_path, gallery_pages.picture_of(word))
    page = gallery_pages.page(word, text)
    gallery_pages.page_of(word).write_text(page, encoding="utf-8")


@pytest.mark.parametrize("name", SCENES)
def test_scene(gracekill: Judge, tmp_path: Path, name: str) -> None:
    scene = SCENES[name]

    def run() -> Report:
        return gracekill(
            flush_time=2.4,
            flags=KillFlags.FORCE,
            policy=scene.policy,
            contenders=("other", "same", "list", "define"),
        )

    def shows(report: Report) -> bool:
        broken = {v.name for v in report.verdicts.values() if v.status != "ok"}
        return broken == scene.expected

    _take(_until(run, shows), tmp_path, FOLDER / f"{name}.svg")


def _until(run: Callable[[], Report], shows: Callable[[Report], bool]) -> Report:
    reports = []
    for _ in range(_ATTEMPTS):
        reports.append(run())
        if shows(reports[-1]):
            return reports[-1]
    pytest.fail(f"none of {_ATTEMPTS} trials shows it; the last one:\n{reports[-1]}")


def _take(report: Report, scratch: Path, to: Path) -> None:
    drawn = (report.save(scratch) / PICTURE).read_text(encoding="utf-8")
    drawn = _neutral(drawn)
    assert len(drawn) < _LARGEST, f"{to.name} would have {len(drawn)} characters"
    to.write_text(drawn, encoding="utf-8")


def _neutral(text: str) -> str:
    text = _PLACES.sub(r"\1", text)
    assert not _ELSEWHERE.search(text), text
    return text
