"""The page in a browser: silent, by keyboard and mouse, with tooltips, in light and dark."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from opened import Opened, axe_finds

if TYPE_CHECKING:
    from pathlib import Path

RIGHT, LEFT, UP, DOWN = "\ue014", "\ue012", "\ue013", "\ue015"
TAB, ENTER, ESCAPE, SHIFT, HOME, END = "\ue004", "\ue007", "\ue00c", "\ue008", "\ue011", "\ue010"

STALL = re.compile(
    r"define-1 stood still, waited \d\.\d{3} s for driver, held by the routine"
    r" \(t\+0\.\d{3} to t\+\d\.\d{3}\)"
)
SIGKILL = re.compile(r"t\+1\.\d{3}: SIGKILL to the VM by the routine, holding driver and domain vm")
LOST = re.compile(r"blocks \d+-63 lost: acknowledged to the guest, .*gone at t\+1\.\d{3}")


def hover(page: Opened, beginning: str) -> None:
    from selenium.webdriver import ActionChains

    item = page.item(beginning)
    page.run("arguments[0].scrollIntoView({block: 'center'})", item)
    ActionChains(page.chrome).move_to_element(item).perform()


def test_it_opens_without_an_error_or_a_request(page: Opened) -> None:
    assert page.run("return document.readyState") == "complete"
    assert page.complaints == []
    (itself,) = page.requests
    assert itself.endswith("/timeline.html")
    # the browser would refuse what the page itself does not ask for
    assert page.run("return document.querySelector('.bar').hidden") is False


@pytest.mark.parametrize(
    ("beginning", "says"),
    [("define-1 stood still", STALL), ("t+1.603: SIGKILL", SIGKILL), ("blocks ", LOST)],
    ids=["a stall", "a signal", "a lost block"],
)
def test_what_is_under_the_pointer_is_told(
    page: Opened, beginning: str, says: re.Pattern[str]
) -> None:
    assert page.tip is None
    hover(page, beginning)
    assert page.tip is not None
    assert says.match(page.tip), page.tip
    page.keys(ESCAPE)
    assert page.tip is None


@pytest.mark.parametrize(
    ("beginning", "says"),
    [("define-1 stood still", STALL), ("t+1.603: SIGKILL", SIGKILL), ("blocks ", LOST)],
    ids=["a stall", "a signal", "a lost block"],
)
def test_what_has_the_focus_is_told(page: Opened, beginning: str, says: re.Pattern[str]) -> None:
    page.run("arguments[0].focus()", page.item(beginning))
    assert page.tip == page.focused
    assert says.match(page.focused), page.focused


def test_a_wait_points_to_the_owner_of_the_lock(page: Opened) -> None:
    arrows = "return document.querySelectorAll('#gk .arrow.hover').length"
    lit = (
        "const names = [...document.querySelectorAll('#gk > g > title')].map(t => t.textContent);"
        "return [...document.querySelectorAll('#gk .lit')].map(l => Number(l.getAttribute('y')))"
    )
    assert page.run(arrows) == 0
    hover(page, "define-1 stood still")
    assert page.run(arrows) == 1
    rows = str(page.run("return document.getElementById('gk').dataset.rows")).split(";")
    tops = [float(row.split(",")[0]) for row in rows]
    # the third lane is the routine's, the fourth the driver lock's
    assert sorted(page.run(lit)) == [tops[2], tops[3]]
    hover(page, "blocks ")
    assert page.run(arrows) == 0


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("DATA LOST", r"1\. t\+1\.\d+ DATA LOST: blocks \d+-63 acknowledged, never on disk"),
        ("KILLED EARLY", r"2\. t\+1\.\d+ KILLED EARLY: SIGKILL, 1\.60 s after"),
        ("HELD OVER WAIT", r"3\. t\+0\.\d+ HELD OVER WAIT: held for 1\.\d+ s, wanted meanwhile"),
        ("STALLED", r"4\. t\+0\.\d+ STALLED: stood still for 1\.\d+ s: waited for driver"),
    ],
)
def test_a_broken_verdict_leads_to_its_moment(page: Opened, word: str, says: str) -> None:
    whole = page.shown
    link = page.run(
        "return [...document.querySelectorAll('td.word a')]."
        "find(a => a.textContent === arguments[0])",
        word,
    )
    link.click()
    assert re.match(says, page.focused), page.focused
    assert page.tip == page.focused
    low, high = page.shown
    assert high - low < (whole[1] - whole[0]) / 2
    found = re.match(r"\d\. t\+(\d\.\d+)", page.focused)
    assert found is not None
    assert low - 0.2 <= float(found[1]) <= high + 0.2
    # and it is in sight
    box = page.run(
        "const b = document.activeElement.getBoundingClientRect(); return [b.top, b.bottom]"
    )
    assert 0 <= box[0] <= box[1] <= page.run("return innerHeight")


def test_it_works_by_keyboard_alone(page: Opened) -> None:
    page.run("document.getElementById('whole').focus()")
    page.keys(TAB)
    first = page.focused
    assert first.startswith("1. t+1."), first
    assert page.tip == first
    page.keys(DOWN)
    assert "SIG" in page.focused or "KILLED EARLY" in page.focused
    page.keys(HOME)
    assert page.focused.startswith("t+0.00"), page.focused
    page.keys(RIGHT)
    assert "SIG" in page.focused or "KILLED EARLY" in page.focused
    before = page.focused
    page.keys(END)
    page.keys(LEFT)
    assert page.focused != ""
    while "define-1 stood still" not in page.focused:
        was = page.focused
        page.keys(DOWN)
        assert page.focused != was, f"no way down from {was} to the stall (began at {before})"
        if page.focused.startswith(("define-1", "4. ")) and "define-1 stood" not in page.focused:
            page.keys(RIGHT)
    assert STALL.match(page.focused)
    # from a wait to who has the lock
    page.keys(ENTER)
    assert page.focused.startswith("the routine: "), page.focused


def test_zoom_and_pan_by_keyboard(page: Opened) -> None:
    page.run("document.getElementById('whole').focus()")
    page.keys(TAB)
    low, high = page.shown
    page.keys("+", "+")
    closer = page.shown
    assert closer[1] - closer[0] < (high - low) / 2
    page.run("return 0")
    from selenium.webdriver import ActionChains

    ActionChains(page.chrome).key_down(SHIFT).send_keys(LEFT).key_up(SHIFT).perform()
    earlier = page.shown
    assert earlier[0] < closer[0]
    page.keys("0")
    assert page.shown == (low, high)
    page.keys("-")
    assert page.shown == (low, high)


def test_zoom_and_pan_by_mouse(page: Opened) -> None:
    from selenium.webdriver import ActionChains

    low, high = page.shown
    svg = page.run("return document.getElementById('gk')")
    page.run("arguments[0].scrollIntoView({block: 'start'})", svg)
    page.run(
        "const b = arguments[0].getBoundingClientRect(); arguments[0].dispatchEvent(new WheelEvent("
        "'wheel', {deltaY: -120, ctrlKey: true, bubbles: true, cancelable: true,"
        " clientX: b.left + b.width / 2, clientY: b.top + 60}));"
        "arguments[0].dispatchEvent(new WheelEvent("
        "'wheel', {deltaY: -900, ctrlKey: true, bubbles: true, cancelable: true,"
        " clientX: b.left + b.width / 2, clientY: b.top + 60}))",
        svg,
    )
    closer = page.shown
    assert closer[1] - closer[0] < high - low
    ActionChains(page.chrome).drag_and_drop_by_offset(
        page.item("t+1.603: SIGKILL"), 200, 0
    ).perform()
    assert page.shown[0] < closer[0]
    for button in ("zoom-in", "earlier", "later", "zoom-out"):
        page.run("document.getElementById(arguments[0]).click()", button)
    page.run("document.getElementById('whole').click()")
    assert page.shown == (low, high)
    assert page.complaints == []


def test_light_and_dark_differ(page: Opened, scheme: str) -> None:
    ground = page.run("return getComputedStyle(document.body).backgroundColor")
    sheet = page.run("return getComputedStyle(document.querySelector('#gk .back')).fill")
    white = "rgb(255, 255, 255)"
    assert (ground == white) == (scheme == "light"), ground
    assert (sheet == white) == (scheme == "light"), sheet


def test_nothing_serious_for_axe(page: Opened) -> None:
    """Also while something has the focus, and its tooltip shows."""
    assert axe_finds(page) == []
    page.run("arguments[0].focus()", page.item("define-1 stood still"))
    assert axe_finds(page) == []


def test_it_can_be_read_without_its_script(page: Opened, tmp_path: Path) -> None:
    path = tmp_path / "plain.html"
    source = (tmp_path / "timeline.html").read_text(encoding="utf-8")
    path.write_text(re.sub(r"<script>.*</script>", "", source, flags=re.DOTALL), encoding="utf-8")
    plain = Opened(page.chrome, path, "light")
    assert plain.run("return document.scripts.length") == 0
    text = str(plain.run("return document.body.innerText"))
    for words in ("DATA LOST", "held by the routine", "SIGKILL to the VM", "stood still"):
        assert words in text
    assert "Zoom in" not in text
    # every thing says what it is, also to who cannot see it
    unnamed = plain.run(
        "return [...document.querySelectorAll('#gk .i')]"
        ".filter((i) => !i.querySelector('title')?.textContent).length"
    )
    assert unnamed == 0
    plain.run("document.querySelector('td.word a').click()")
    assert plain.run("return document.querySelector(':target') !== null")


def test_it_prints(page: Opened) -> None:
    sheet = page.chrome.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert len(sheet["data"]) > 10_000
    page.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        hidden = page.run("return getComputedStyle(document.querySelector('.bar')).display")
        back = page.run("return getComputedStyle(document.querySelector('#gk .back')).fill")
    finally:
        page.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert hidden == "none"
    assert back == "rgb(255, 255, 255)"
