"""The page of an explored failure: virtual time, and its schedule step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opened import Opened, axe_finds

from pytest_gracekill.render.folder import Saved
from pytest_gracekill.render.page import html
from pytest_gracekill.render.picture import picture_of
from pytest_gracekill.render.record import Record, Step
from pytest_gracekill.report import Moment, Verdict
from pytest_gracekill.witness.recording import Recording

if TYPE_CHECKING:
    from pathlib import Path

    from selenium.webdriver import Chrome

TOLD = [
    ("one", "acquires a", 0),
    ("one", "sleeps 10 s", 10),
    ("two", "acquires b", 10),
    ("one", "waits for b (held by two), and goes no further", 10),
    ("two", "waits for a (held by one), and goes no further", 10),
]


@pytest.fixture
def page(chromium: Chrome, scheme: str, tmp_path: Path) -> Opened:
    """Two threads that take two locks in different orders."""
    steps = tuple(
        Step(number=n, task=task, operation=told, line=f"t.py:{n}", at_ns=seconds * 10**9)
        for n, (task, told, seconds) in enumerate(TOLD, start=1)
    )
    moment = Moment(word="DEADLOCK", lane="thread two", at_ns=10 * 10**9, text="goes no further")
    verdict = Verdict(
        name="deadlock", status="broken", word="DEADLOCK", evidence="", moments=(moment,)
    )
    record = Record(
        headline="gracekill: DEADLOCK", ok=False, verdicts=(verdict,), clock="virtual", steps=steps
    )
    path = tmp_path / "timeline.html"
    drawn = picture_of(Saved(story=Recording(0, []), record=record))
    path.write_text(html(drawn), encoding="utf-8")
    return Opened(chromium, path, scheme)


def test_a_step_leads_to_its_place(page: Opened) -> None:
    links = page.run("return [...document.querySelectorAll('ol.steps a')]")
    assert len(links) == len(TOLD)
    places = []
    for number, link in enumerate(links, start=1):
        link.click()
        assert page.focused.startswith(f"{number}. t+{TOLD[number - 1][2]}.000 "), page.focused
        assert page.tip == page.focused
        places.append(float(page.run("return document.activeElement.dataset.a")))
    # also those of one instant are apart
    assert places == sorted(set(places))
    assert page.complaints == []


def test_who_stands_still_points_to_the_owner(page: Opened) -> None:
    page.run("arguments[0].focus()", page.item("two stands still"))
    told = "two stands still, waits for ever for a, held by one (from t+10.000 on)"
    assert page.focused.startswith(told), page.focused
    assert page.run("return document.querySelectorAll('#gk .arrow.hover').length") == 1


def test_nothing_serious_for_axe(page: Opened) -> None:
    assert axe_finds(page) == []
