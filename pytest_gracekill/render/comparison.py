"""Two runs beside each other, on one time scale: before and after a fix, as a page and as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gracekill.errors import UsageError
from pytest_gracekill.render.page.compose import asset
from pytest_gracekill.render.page.parts import words
from pytest_gracekill.render.picture import picture_of
from pytest_gracekill.render.terminal import terminal
from pytest_gracekill.render.timeline.drawing import svg
from pytest_gracekill.render.timeline.look import style
from pytest_gracekill.render.timeline.marking import text
from pytest_gracekill.render.timeline.scale import Scale, scale_of
from pytest_gracekill.report import VERDICTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gracekill.render.folder import Saved
    from pytest_gracekill.render.picture import Finding, Picture
    from pytest_gracekill.render.terminal.ink import Ink

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_SIDES = ("before", "after")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two pictures of the same extent, their names, and the scale of both."""

    pictures: tuple[Picture, Picture]
    names: tuple[str, str]
    scale: Scale

    def __str__(self) -> str:
        return f"{self.names[0]} and {self.names[1]}"

    def verdicts(self) -> Iterator[tuple[str, Finding | None, Finding | None]]:
        """Each verdict that one of them has, as both have it."""
        before, after = ({f.name: f for f in picture.findings} for picture in self.pictures)
        for name in VERDICTS:
            if name in before or name in after:
                yield name, before.get(name), after.get(name)


def compare(before: Saved, after: Saved, names: tuple[str, str]) -> Comparison:
    """Put two runs beside each other; ``names`` are what to call them.

    :raises UsageError: there is no scale for both.
    """
    if before.record.clock != after.record.clock:
        clocks = (before.record.clock, after.record.clock)
        virtual, real = names if clocks[0] == "virtual" else names[::-1]
        raise UsageError(
            f"{virtual} is an explored schedule, in virtual time, and {real} is a trial: they have"
            " no time scale in common; compare two of a kind"
        )
    alone = [picture_of(saved) for saved in (before, after)]
    extent = min(p.begin for p in alone), max(p.end for p in alone)
    first, second = (picture_of(saved, extent) for saved in (before, after))
    return Comparison(pictures=(first, second), names=names, scale=scale_of(first, second))


def lines(comparison: Comparison, ink: Ink) -> Iterator[str]:
    """The comparison as text: each picture, then what is not the same."""
    for side, name, picture in zip(_SIDES, comparison.names, comparison.pictures, strict=True):
        yield ink.words(f"{side} ({name}): {picture.headline}")
        yield terminal(picture, ink, scale=comparison.scale)
        yield ""
    changes = [
        f"  {name.ljust(max(map(len, VERDICTS)))}  {_word(before)} -> {_word(after)}"
        for name, before, after in comparison.verdicts()
        if _word(before) != _word(after)
    ]
    yield "changed:" if changes else "no verdict has changed"
    yield from (ink.words(line) for line in changes)


def page(comparison: Comparison) -> str:
    """The comparison as one self-contained page; it needs no script."""
    title = " / ".join(
        f"{side}: {picture.headline.removeprefix('gracekill: ')}"
        for side, picture in zip(_SIDES, comparison.pictures, strict=True)
    )
    head = (
        '<meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{text(_POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{text(title)}</title><style>{asset('page.css')}{style('gk')}</style>"
    )
    parts = [
        f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}</head>\n<body>',
        f"<header><h1>{text(title)}</h1></header>\n<main>",
        _table(comparison),
    ]
    for number, (side, name, picture) in enumerate(
        zip(_SIDES, comparison.names, comparison.pictures, strict=True), start=1
    ):
        drawn = svg(picture, prefix=f"gk{number}", standalone=False, scale=comparison.scale)
        story = "".join(f"<li>{text(sentence)}</li>" for sentence in picture.story)
        about = f"{name}, {picture.title}" if picture.title else name
        parts += [
            f"<section><h2>{side}: {text(picture.headline)}</h2>",
            f'<p class="about">{text(about)}</p>',
            f'<ul class="story">{story}</ul>' if story else "",
            f'<div class="sheet">{drawn}</div></section>',
        ]
    parts += [words(picture) for picture in comparison.pictures]
    clock = "virtual time" if comparison.pictures[0].virtual else "seconds"
    foot = f"Both on one scale. Stamps such as t+0.000 are {clock} after the call of the routine."
    return "\n".join([*parts, f"</main>\n<footer>{foot}</footer>\n</body>\n</html>\n"])


def _table(comparison: Comparison) -> str:
    rows = "".join(
        f'<tr class="{_status(before, after)}"><th scope="row">{text(name)}</th>'
        f"<td>{_cell(before)}</td><td>{_cell(after)}</td></tr>"
        for name, before, after in comparison.verdicts()
    )
    return (
        "<section><h2>Verdicts</h2><table><caption>What was concluded of each run.</caption><thead>"
        '<tr><th scope="col">verdict</th><th scope="col">before</th><th scope="col">after</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></section>"
    )


def _cell(finding: Finding | None) -> str:
    if finding is None:
        return "not judged"
    return f"<strong>{text(_word(finding))}</strong><p>{text(finding.evidence)}</p>"


def _status(*findings: Finding | None) -> str:
    """How a row looks: as the run after is."""
    last = findings[-1]
    return "ok" if last is None else last.status


def _word(finding: Finding | None) -> str:
    return "not judged" if finding is None else ", ".join((finding.word, *finding.also))
