"""The page: what was concluded on top, the timeline under it, and the same in words.

Everything is in the one file: style, script, picture. It asks nobody for anything, and says so to
the browser. Without its script it can be read and printed; with it, it can be zoomed into.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gracekill.render.page.parts import findings, steps, words
from pytest_gracekill.render.timeline.drawing import svg
from pytest_gracekill.render.timeline.look import style
from pytest_gracekill.render.timeline.marking import element, text

if TYPE_CHECKING:
    from pytest_gracekill.render.picture import Picture

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_BUTTONS = (
    ("zoom-in", "Zoom in"),
    ("zoom-out", "Zoom out"),
    ("earlier", "Earlier"),
    ("later", "Later"),
    ("whole", "Whole"),
)
_HINT = (
    "Ctrl and wheel zoom, drag to pan. Tab to the timeline, then arrows go from one thing to the"
    " next, + and - zoom, Shift and arrows pan, 0 shows all, Enter goes from a wait to who holds"
    " the lock."
)


def html(picture: Picture) -> str:
    """The page of one picture."""
    head = (
        '<meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{text(_POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        # a browser would ask for an icon
        '<link rel="icon" href="data:,">'
        f"<title>{text(_title(picture))}</title>"
        f"<style>{asset('page.css')}{style('gk')}</style>"
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{_body(picture)}\n'
        f"<script>{asset('page.js')}</script>\n</body>\n</html>\n"
    )


def _title(picture: Picture) -> str:
    return f"{picture.headline} - {picture.title}" if picture.title else picture.headline


def _body(picture: Picture) -> str:
    parts = [f"<header>{_header(picture)}</header>", "<main>"]
    parts += [findings(picture)]
    parts += ["<section><h2>Timeline</h2>", _bar(), f'<div class="sheet">{_svg(picture)}</div>']
    parts += ["</section>"]
    if picture.steps:
        parts.append(steps(picture))
    parts += [words(picture), "</main>", f"<footer>{_footer(picture)}</footer>"]
    parts.append('<div id="tip" role="tooltip" hidden></div>')
    return "\n".join(parts)


def _svg(picture: Picture) -> str:
    return svg(picture, prefix="gk", standalone=False)


def _header(picture: Picture) -> str:
    told = f"<h1>{text(picture.headline)}</h1>"
    if picture.title:
        told += f'<p class="about">{text(picture.title)}</p>'
    facts = "; ".join(f"{name}: {value}" for name, value in picture.facts.items())
    if facts:
        told += f'<p class="about">{text(facts)}</p>'
    if picture.story:
        sentences = "".join(f"<li>{text(sentence)}</li>" for sentence in picture.story)
        told += f'<ul class="story">{sentences}</ul>'
    return told


def _bar() -> str:
    buttons = "".join(
        element("button", text(label), type="button", id=id_) for id_, label in _BUTTONS
    )
    return f'<div class="bar" hidden>{buttons}<span class="hint">{text(_HINT)}</span></div>'


def _footer(picture: Picture) -> str:
    clock = "virtual time" if picture.virtual else "seconds"
    left = f" Not drawn: {', '.join(picture.left_out)}." if picture.left_out else ""
    return text(
        f"Drawn by pytest-gracekill from {picture.events} events. Stamps such as t+0.000 are"
        f" {clock} after the call of the routine.{left}"
    )


@cache
def asset(name: str) -> str:
    """A file of the page as text."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
