"""Draws a picture in lines of text: an axis, a row a lane, a number where a broken word shows.

There are 20 lines, and lanes may be more: the VM, the signals and the routine come first, then
what broken verdicts are about, then what somebody waited for. The others are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gracekill.render.picture import stamp
from pytest_gracekill.render.terminal.ink import PLAIN
from pytest_gracekill.render.timeline.drawing import broken
from pytest_gracekill.render.timeline.scale import scale_of, ticks
from pytest_gracekill.render.timeline.words import label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_gracekill.render.picture import Density, Finding, Lane, Picture, Span
    from pytest_gracekill.render.terminal.ink import Ink
    from pytest_gracekill.render.timeline.scale import Scale

LINES = 20
COLUMNS = 100
#: The columns of the names, and of the plot.
_NAMES = 16
_PLOT = COLUMNS - _NAMES - 1
#: Lines of numbered words at most.
_WORDS = 5
#: What lies over what within a lane, from the back to the front; what is not there is not drawn.
_DEPTH = (
    "call",
    "ready",
    "flushing",
    "lingering",
    "stopped",
    "lost",
    "sleeps",
    "stands",
    "works",
    "held",
    "operation",
    "waits",
    "stalls",
)
_KEY = (
    ("flushing", "flushing"),
    ("lost", "lost"),
    ("sleeps", "sleeps"),
    ("stands", "stands"),
    ("waits", "waits"),
    ("stalls", "stands still"),
    ("own", "the routine holds"),
    ("held", "others hold"),
)
#: Which share of the time of a cell counts as much.
_MUCH = 0.5


def terminal(picture: Picture, ink: Ink = PLAIN, *, scale: Scale | None = None) -> str:
    """The picture in at most `LINES` lines of `COLUMNS` columns; ``scale``: if not its own."""
    sheet = _Sheet(ink=ink, scale=scale_of(picture) if scale is None else scale)
    findings = broken(picture)
    numbered = list(enumerate(findings, start=1))
    words = [_finding(number, finding, ink) for number, finding in numbered]
    if len(words) > _WORDS:
        words = [*words[: _WORDS - 1], f"and {len(words) - _WORDS + 1} more verdicts"]
    pins = _pins(numbered, sheet)
    room = LINES - 2 - len(words) - bool(pins)
    shown, left = _chosen(picture.lanes, room)
    names = {lane.key: lane.name for lane in picture.lanes}
    rows = [_row(lane.name, _lane(lane, sheet, names), ink) for lane in shown]
    if left:
        rows.append(_row(f"{len(left)} more", _rest(left, ink), ink))
    lines = [_row("", _axis(sheet), ink), *pins, *rows, *words, _key(shown, ink)]
    return "\n".join(line.rstrip() for line in lines).rstrip("\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sheet:
    """Where a moment is, in columns of the plot."""

    ink: Ink
    scale: Scale

    def column(self, at: float) -> int:
        return min(max(int(self.scale.place(at) * _PLOT), 0), _PLOT - 1)

    def columns(self, since: float, until: float) -> tuple[int, int]:
        """The first column, and the one after the last: at least one."""
        first = self.column(since)
        place = self.scale.place(until) * _PLOT
        # what ends within the first tenth of a column is not in it
        return first, min(max(int(place + 0.9), first + 1), _PLOT)


def _row(name: str, cells: str, ink: Ink) -> str:
    return f"{ink.fitted(name, _NAMES).ljust(_NAMES)} {cells}"


def _axis(sheet: _Sheet) -> str:
    """The stamps of round moments, each beginning where its moment is."""
    cells = [" "] * _PLOT
    for at, text in ticks(sheet.scale):
        place = sheet.column(at)
        around = cells[max(place - 1, 0) : place + len(text) + 1]
        if place + len(text) <= _PLOT and not "".join(around).strip():
            cells[place : place + len(text)] = text
    return "".join(cells)


def _pins(numbered: Sequence[tuple[int, Finding]], sheet: _Sheet) -> list[str]:
    """The row of the numbers of broken words, each where the first of its moments is."""
    cells = [" "] * _PLOT
    for number, finding in numbered:
        for point in finding.points[:1]:
            place = sheet.column(point.at)
            while place < _PLOT - 1 and cells[place] != " ":
                place += 1
            cells[place] = str(number)
    row = "".join(cells)
    return [_row("", row, sheet.ink)] if row.strip() else []


def _finding(number: int, finding: Finding, ink: Ink) -> str:
    when = f" {stamp(finding.points[0].at)}" if finding.points else ""
    said = ", ".join((finding.word, *finding.also))
    return ink.fitted(f"{number}{when} {said}: {finding.evidence}", COLUMNS)


def _chosen(lanes: Sequence[Lane], room: int) -> tuple[list[Lane], list[Lane]]:
    """The lanes that there is room for, in their order, and the others."""
    if len(lanes) <= room:
        return list(lanes), []
    ranked = sorted(range(len(lanes)), key=lambda place: (_rank(lanes[place]), place))
    kept = set(ranked[: room - 1])
    return (
        [lane for place, lane in enumerate(lanes) if place in kept],
        [lane for place, lane in enumerate(lanes) if place not in kept],
    )


def _rank(lane: Lane) -> int:
    if lane.kind in ("fake", "signals", "routine"):
        return 0
    if lane.broken:
        return 1
    waits = any(span.kind in ("waits", "stalls") for span in lane.spans)
    return 2 if waits or (lane.kind == "lock" and lane.spans) else 3


def _rest(lanes: Sequence[Lane], ink: Ink) -> str:
    """The names of the lanes that there is no room for."""
    return ink.fitted(", ".join(lane.name for lane in lanes), _PLOT)


def _lane(lane: Lane, sheet: _Sheet, names: Mapping[str, str]) -> str:
    cells = [" "] * _PLOT
    if lane.density is not None:
        _scatter(cells, lane.density, sheet)
    drawn = [span for span in lane.spans if span.kind in _DEPTH]
    drawn.sort(key=lambda span: (_DEPTH.index(span.kind), span.seconds))
    for span in drawn:
        first, last = sheet.columns(span.since, span.until)
        cells[first:last] = _sign(span, sheet.ink) * (last - first)
    for span in drawn:
        _write_within(cells, span, _told(lane, span, names), sheet)
    _marks(cells, lane, sheet)
    return "".join(cells)


def _sign(span: Span, ink: Ink) -> str:
    if span.kind == "held" and span.owner == "routine":
        return ink.signs["own"]
    return ink.signs[span.kind]


def _told(lane: Lane, span: Span, names: Mapping[str, str]) -> list[str]:
    """What is to be written over a span: the first that there is room for."""
    if span.kind == "flushing" and lane.progress is not None:
        done = f"{lane.progress.durable} of {lane.progress.blocks}"
        return [f"flushed {done} blocks", done]
    if span.kind == "lost" and lane.progress is not None:
        kind, runs = next(iter(lane.progress.damaged.items()), ("lost", ()))
        which = ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in runs)
        return [f"{kind}: blocks {which}", f"{kind} {which}", kind]
    if span.kind == "call":
        return []
    words = label(span, names)
    how_long = "for ever" if " for ever " in span.text else f"{span.seconds:.3f} s"
    told = [words, words.partition(", held by ")[0], f"{span.kind} {how_long}"]
    if span.kind == "held":
        told = [words, words.rpartition(", ")[0]]
    return told if span.kind not in ("ready", "lingering") else [span.kind]


def _write_within(cells: list[str], span: Span, told: Sequence[str], sheet: _Sheet) -> None:
    """Write words into a span, if there is room; where nothing lies over it."""
    first, last = sheet.columns(span.since, span.until)
    sign = _sign(span, sheet.ink)
    while first < last and cells[first] != sign:
        first += 1
    while last > first and cells[last - 1] != sign:
        last -= 1
    for words in told:
        text = f" {sheet.ink.words(words)} "
        if len(text) + 2 <= last - first and set(cells[first + 1 : first + 1 + len(text)]) == {
            sign
        }:
            cells[first + 1 : first + 1 + len(text)] = text
            return


def _scatter(cells: list[str], density: Density, sheet: _Sheet) -> None:
    """What is too much to be drawn one by one: nothing, a little or much of it in each cell."""
    shares: dict[int, float] = {}
    for bin_, (count, share) in enumerate(zip(density.counts, density.shares, strict=True)):
        if count or share:
            column = sheet.column(density.since + (bin_ + 0.5) * density.width)
            shares[column] = max(shares.get(column, 0.0), share)
    for column, share in shares.items():
        cells[column] = sheet.ink.levels[share >= _MUCH]


def _marks(cells: list[str], lane: Lane, sheet: _Sheet) -> None:
    """What happens at one moment, with its words where there is room for them."""
    marks = [mark for mark in lane.marks if mark.kind not in ("call", "taken")]
    if lane.kind not in ("signals", "routine", "fake"):
        marks = [mark for mark in marks if mark.kind in ("raised", "cut off")]
    places = [sheet.column(mark.at) for mark in marks]
    for number, (mark, place) in enumerate(zip(marks, places, strict=True)):
        cells[place] = sheet.ink.signs["moment"]
        following = min((p for p in places[number + 1 :] if p > place), default=_PLOT)
        text = sheet.ink.words(mark.label)
        room = cells[place + 1 : place + 1 + len(text) + 1]
        if place + 1 + len(text) < following and not "".join(room).strip():
            cells[place + 1 : place + 1 + len(text)] = text
        elif not "".join(cells[max(place - len(text), 0) : place]).strip() and place >= len(text):
            cells[place - len(text) : place] = text


def _key(lanes: Sequence[Lane], ink: Ink) -> str:
    """What the signs mean that are to be seen."""
    kinds = {span.kind for lane in lanes for span in lane.spans}
    if any(s.kind == "held" and s.owner == "routine" for lane in lanes for s in lane.spans):
        kinds.add("own")
    told = [f"{ink.signs[kind]} {words}" for kind, words in _KEY if kind in kinds]
    if any(lane.density is not None for lane in lanes):
        told.append(f"{ink.levels[0]}{ink.levels[1]} many")
    return ink.fitted("  ".join(told), COLUMNS)
