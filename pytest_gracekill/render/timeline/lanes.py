"""Draws the lanes of signals, threads and locks, and the margin beside each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.render.picture import stamp
from pytest_gracekill.render.timeline import vm
from pytest_gracekill.render.timeline.canvas import LEFT, RIGHT, Box, Label
from pytest_gracekill.render.timeline.marking import element, number, share, text
from pytest_gracekill.render.timeline.words import label, margin, told

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from pytest_gracekill.render.picture import Density, Lane, Mark, Span
    from pytest_gracekill.render.timeline.canvas import Canvas

#: How high a lane of each kind is.
HEIGHTS = {"fake": 104, "signals": 32, "routine": 44, "lock": 28, "contender": 30, "thread": 30}
_PAD = 4
#: Pixels between two labels of marks at least, and for each letter of one.
_APART = 78
_LETTER = 6.9
#: A bin that had anything at all is seen: as high as that, of 1.
_SEEN = 0.12


def draw(
    canvas: Canvas,
    lane: Lane,
    top: float,
    names: Mapping[str, str],
    pinned: Collection[float] = (),
) -> Iterator[str]:
    """Everything of a lane, from the back to the front; ``names`` of all lanes by their keys.

    :param pinned: the moments of this lane that have a pin.
    """
    box = Box(top=top + _PAD, height=HEIGHTS[lane.kind] - 2 * _PAD)
    if lane.kind == "fake":
        yield from vm.draw(canvas, lane, box)
    else:
        if lane.density is not None:
            yield from _density(canvas, lane, lane.density, box)
        for span in sorted(lane.spans, key=_depth):
            yield _span(canvas, lane, span, _row(lane, span, box), names)
    if lane.kind == "signals":
        yield from _flags(canvas, lane, box, pinned)
        return
    for mark in lane.marks:
        if mark.kind in ("raised", "event", "cut off", "request"):
            yield _dot(canvas, lane, mark, box)


def gutter(lane: Lane, top: float) -> str:
    """The name of a lane and a few words on it, in the margin."""
    middle = top + HEIGHTS[lane.kind] / 2
    longest = int((LEFT - 16) / 7)
    cut = lane.name if len(lane.name) <= longest else lane.name[: longest - 3] + "..."
    title = element("title", text(f"{lane.name}: {lane.summary}"))
    name = element("text", text(cut), x=8, y=middle - 6, class_="name")
    words = element("text", text(margin(lane)), x=8, y=middle + 7, class_="dim")
    return element("g", title + name + words)


def _depth(span: Span) -> int:
    """What is drawn first lies behind."""
    return (
        ("call", "holds", "sleeps", "stands", "works").index(span.kind)
        if span.kind
        in (
            "call",
            "holds",
            "sleeps",
            "stands",
            "works",
        )
        else 9
    )


def _row(lane: Lane, span: Span, box: Box) -> Box:
    """What a caller does stands above what it holds."""
    if lane.kind != "routine":
        return box
    if span.kind == "holds":
        return Box(top=box.top + 23, height=14)
    return Box(top=box.top, height=22)


def _span(canvas: Canvas, lane: Lane, span: Span, box: Box, names: Mapping[str, str]) -> str:
    class_, extra = span.kind, ""
    if span.kind == "held" and span.owner == "routine":
        class_ = "own"
    elif span.kind == "stalls":
        class_, extra = "hatched", "halo bad"
    elif span.kind == "holds":
        extra = "small ink"
    words = label(span, names)
    whose = "" if lane.kind == "lock" or span.text.startswith(lane.name) else f"{lane.name}: "
    return canvas.span(
        since=span.since,
        until=span.until,
        box=box,
        class_=class_,
        title=f"{whose}{_with_stamps(span)}",
        lane=lane.key,
        labels=(Label(words=words, down=box.height / 2 + 0.5, class_=extra),) if words else (),
        owner=span.owner,
        lock=span.lock if lane.kind != "lock" else None,
    )


def _with_stamps(span: Span) -> str:
    if stamp(span.since) in span.text:
        return span.text
    return f"{span.text} ({stamp(span.since)} to {stamp(span.until)})"


def _density(canvas: Canvas, lane: Lane, density: Density, box: Box) -> Iterator[str]:
    """How much went on, as the height of an area: counts of a thread, shares of a lock."""
    most = max(density.counts)
    values = density.shares if lane.kind == "lock" else [n / most for n in density.counts]
    path, before = f"M{share(canvas.scale.place(density.since))} {number(box.bottom)}", 0.0
    for bin_, value in enumerate([*values, 0.0]):
        now = 0.0 if value <= 0 else max(value, _SEEN)
        if now != before:
            x = share(canvas.scale.place(density.since + bin_ * density.width))
            path += f"H{x}V{number(box.bottom - box.height * now)}"
            before = now
    yield canvas.stretched(f"{path}z", "dots")
    yield canvas.span(
        since=density.since,
        until=density.until,
        box=box,
        class_="clear",
        title=f"{lane.name}: {told(density)}",
        lane=lane.key,
    )


def _flags(canvas: Canvas, lane: Lane, box: Box, pinned: Collection[float]) -> Iterator[str]:
    """Signals, with their names and times where these have room."""
    places = [canvas.x(mark.at) for mark in lane.marks]
    last = float("-inf")
    for mark, x, following in zip(lane.marks, places, [*places[1:], float("inf")], strict=True):
        words = ""
        if x - last >= _APART:
            full = f"{mark.label} {stamp(mark.at)}"
            words = full if following - x > 12 + _LETTER * len(full) else mark.label
            last = x + max(0.0, _LETTER * len(words) - _APART)
        yield _flag(canvas, mark, box, words=words, pinned=mark.at in pinned)


def _flag(canvas: Canvas, mark: Mark, box: Box, *, words: str, pinned: bool) -> str:
    bad = " bad" if mark.bad else ""
    at_left = canvas.x(mark.at) > RIGHT - 1.5 * _APART
    stick = f"M0 {number(box.top)}V{number(box.bottom)}"
    cloth = f"M-5 {number(box.middle - 6)}L5 {number(box.middle)}L-5 {number(box.middle + 6)}z"
    shape = element("path", d=stick, class_=f"line{bad}")
    shape += element("path", d=cloth, class_=f"flag{bad}")
    if words:
        shape += element(
            "text",
            text(words),
            x=(-28 if pinned else -8) if at_left else 8,  # a pin is at the left of its mark
            y=box.middle,
            text_anchor="end" if at_left else None,
            class_=f"strong{bad}",
        )
    return canvas.mark(at=mark.at, title=str(mark), lane="signals", shape=shape, kind="flagged")


def _dot(canvas: Canvas, lane: Lane, mark: Mark, box: Box) -> str:
    bad = " bad" if mark.bad else ""
    if mark.kind == "cut off":
        path = f"M0 {number(box.top)}V{number(box.bottom)}"
        shape = element("path", d=path, class_=f"line{bad}")
    else:
        path = f"M0 {number(box.middle - 6)}l6 6l-6 6l-6-6z"
        shape = element("path", d=path, class_=f"flag{bad}")
    return canvas.mark(at=mark.at, title=f"{lane.name}: {mark}", lane=lane.key, shape=shape)
