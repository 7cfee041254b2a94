"""Every word has its page in the gallery, with a picture, and the code on it is that of today."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from docs import flaws, gallery_pages
from docs.blocks import ROOT
from docs.exhibits import EXHIBITS, FOLDER, SCENES
from pytest_gracekill.verdicts.moments import MOMENTS

if TYPE_CHECKING:
    from pytest_gracekill.fixtures import Judge, StartFake

GENERATE = "run python docs/gallery.py"
LARGEST_PICTURE = 60_000
LARGEST_GALLERY = 1_500_000
SVG = "{http://www.w3.org/2000/svg}"
PICTURES = [gallery_pages.picture_of(word) for word in EXHIBITS]
PICTURES += [FOLDER / f"{name}.svg" for name in SCENES]
PAGES = [*sorted(FOLDER.glob("*.md"))]


def test_every_word_has_its_page() -> None:
    words = set(gallery_pages.words())
    # those that a picture can point at, which are all that the code knows
    assert words == set(MOMENTS)
    assert set(EXHIBITS) == words, f"{words ^ set(EXHIBITS)}: docs/exhibits.py, then {GENERATE}"
    expected = {gallery_pages.page_of(word).name for word in words} | {"index.md"}
    assert {page.name for page in PAGES} == expected


@pytest.mark.parametrize("word", EXHIBITS)
def test_page_is_that_of_the_sources(word: str) -> None:
    there = gallery_pages.page_of(word).read_text(encoding="utf-8")
    report = gallery_pages.report_in(there)
    assert gallery_pages.page(word, report) == there, f"{GENERATE} --text"


def test_index_is_that_of_the_words() -> None:
    there = (FOLDER / "index.md").read_text(encoding="utf-8")
    assert gallery_pages.index() == there, f"{GENERATE} --text"


@pytest.mark.parametrize("word", EXHIBITS)
def test_report_and_picture_say_the_word(word: str) -> None:
    report = gallery_pages.report_in(gallery_pages.page_of(word).read_text(encoding="utf-8"))
    headline = report.partition("\n")[0]
    assert re.search(rf"\b{word}\b", headline), f'{GENERATE} "{word}"'
    told = ET.parse(gallery_pages.picture_of(word)).findtext(f"{SVG}title")
    # one trial for both
    assert told == headline


@pytest.mark.parametrize("name", SCENES)
def test_picture_of_the_story_shows_its_scene(name: str) -> None:
    drawn = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    headline = ET.fromstring(drawn).findtext(f"{SVG}title") or ""
    words = {"data": "DATA LOST", "escalation": "KILLED EARLY"}
    words |= {"locks": "HELD OVER WAIT", "progress": "STALLED"}
    for verdict, word in words.items():
        assert (word in headline) == (verdict in SCENES[name].expected)
    for page in ("README.md", "docs/policies.md"):
        shown = re.findall(r"!\[(.+?)\]\((\S+?)\)", (ROOT / page).read_text(encoding="utf-8"))
        alone = {Path(target).name: words for words, target in shown}
        assert alone.get(f"{name}.svg") == SCENES[name].shows, page


def test_readme_opens_with_the_first_picture() -> None:
    parts = (ROOT / "README.md").read_text(encoding="utf-8").split("\n\n")
    assert parts[0].startswith("# ")
    assert f"docs/gallery/{next(iter(SCENES))}.svg" in parts[2]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_picture_is_small_and_stands_alone(picture: Path) -> None:
    drawn = picture.read_text(encoding="utf-8")
    assert len(drawn) < LARGEST_PICTURE
    tree = ET.fromstring(drawn)
    assert tree.get("role") == "img"
    assert tree.findtext(f"{SVG}title")
    assert tree.findtext(f"{SVG}desc")
    assert not list(tree.iter(f"{SVG}script"))
    assert not re.search(r"(?:href|src)=|@import|url\((?!#)", drawn)


def test_gallery_is_small_and_has_nothing_else() -> None:
    files = list(FOLDER.iterdir())
    assert {file for file in files if file.suffix != ".md"} == set(PICTURES)
    assert sum(file.stat().st_size for file in files) < LARGEST_GALLERY


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere_and_nothing_is_of_this_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (page.parent / target).exists(), target
    for source in (text, *(p.read_text(encoding="utf-8") for p in PICTURES if p.stem == page.stem)):
        assert not re.search(r"/(?:tmp|root|home|work|usr|opt)/", source)


@pytest.mark.parametrize("word", ["PHANTOM", "LOCKED"])
def test_what_is_not_of_the_flaws_is_caught(
    gracekill: Judge, fake_qemu: StartFake, word: str
) -> None:
    """The others are by tests/flaws; STALE depends on where between two flushes SIGKILL comes."""
    specimen = flaws.load(ROOT / EXHIBITS[word].wrong)
    report = specimen.run(gracekill, fake_qemu)
    broken = {verdict.name for verdict in report.verdicts.values() if verdict.status != "ok"}
    assert broken == set(specimen.caught), report
    assert word in report.headline()


def test_a_word_that_there_is_not_is_one_clear_error() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "gallery.py", "DATA LOSS"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("there is no DATA LOSS in the gallery: DATA LOST, ")
