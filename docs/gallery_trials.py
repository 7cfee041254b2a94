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
from pytest_gracekill.render.folder import Saved, record_of  # noqa: E402
from pytest_gracekill.render.picture import picture_of  # noqa: E402
from pytest_gracekill.render.timeline.drawing import svg  # noqa: E402
from pytest_gracekill.witness.recording import Recording  # noqa: E402

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
def test_exhibit(gracekill: Judge, fake_qemu: StartFake, word: str) -> None:
    specimen = flaws.load(ROOT / EXHIBITS[word].wrong)
    expected = {*specimen.caught, *EXHIBITS[word].beside}

    def shows(report: Report) -> bool:
        broken = {v.name: v for v in report.verdicts.values() if v.status != "ok"}
        said = {moment.word for verdict in broken.values() for moment in verdict.moments}
        if word == "LOCK ORDER" and "DEADLOCK" in said:
            return False  # it has a page of its own
        starved = any("starved" in verdict.evidence for verdict in report.verdicts.values())
        return word in said and set(broken) == expected and not starved

    report, drawn = _until(lambda: specimen.run(gracekill, fake_qemu), shows)
    gallery_pages.picture_of(word).write_text(drawn, encoding="utf-8")
    page = gallery_pages.page(word, _neutral(str(report)))
    gallery_pages.page_of(word).write_text(page, encoding="utf-8")


@pytest.mark.parametrize("name", SCENES)
def test_scene(gracekill: Judge, name: str) -> None:
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

    _, drawn = _until(run, shows)
    (FOLDER / f"{name}.svg").write_text(drawn, encoding="utf-8")


def _until(run: Callable[[], Report], shows: Callable[[Report], bool]) -> tuple[Report, str]:
    """The first trial that shows it, and its picture, which has to be small."""
    seen = []
    for _ in range(_ATTEMPTS):
        report = run()
        drawn = _drawn(report)
        if shows(report) and len(drawn) < _LARGEST:
            return report, drawn
        seen.append(f"a picture of {len(drawn)} characters, and\n{report}")
    pytest.fail(f"none of {_ATTEMPTS} trials shows it; the last one: {seen[-1]}")


def _drawn(report: Report) -> str:
    story = Recording(report.history.origin_ns, report.history.events())
    return _neutral(svg(picture_of(Saved(story=story, record=record_of(report)))))


def _neutral(text: str) -> str:
    text = _PLACES.sub(r"\1", text)
    assert not _ELSEWHERE.search(text), text
    return text
