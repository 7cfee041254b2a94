"""The words within and beside what is drawn: short labels, and what a density says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.render.picture import stamp
from pytest_gracekill.render.timeline.scale import longest_gap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_gracekill.render.picture import Density, Lane, Span

#: Characters of a summary in the margin.
_MARGIN = 36


def label(span: Span, names: Mapping[str, str]) -> str:
    """A few words for a span that has the room; ``names`` of lanes by their keys."""
    owner = names.get(span.owner or "", "")
    seconds = f"{span.seconds:.3f} s"
    if span.kind == "stalls" and span.open:
        how_long = " for ever" if " for ever " in span.text else ""
        return (
            f"stands still{how_long}: waits for {span.lock}{', held by ' + owner if owner else ''}"
        )
    if span.kind in ("waits", "stalls"):
        verb = "stood still" if span.kind == "stalls" else "waited"
        lock = f" for {span.lock}" if span.lock else ""
        return f"{verb} {seconds}{lock}{', held by ' + owner if owner else ''}"
    if span.kind in ("sleeps", "stands", "works"):
        return f"{span.kind} {seconds}{span.text.partition(' s')[2]}"
    told = {
        # a schedule that ends in a deadlock takes no time: a length would say nothing
        "held": f"{owner}, {'to the end' if span.open and seconds == '0.000 s' else seconds}",
        "holds": span.text.partition(" from ")[0],
        "operation": f"one operation, {seconds}",
        "call": "",
    }
    return told.get(span.kind, span.kind)


def told(density: Density) -> str:
    """What a density says, for whoever cannot see it."""
    rate = max(density.counts) / density.width if density.width else 0.0
    text = f"{density} in all, at most {rate:.0f} a second"
    first, last = longest_gap(density.counts)
    gap = (last - first) * density.width
    if gap > density.width * len(density.counts) / 20:
        since = density.since + first * density.width
        text += f"; none from {stamp(since)} to {stamp(since + gap)}"
    return text


def margin(lane: Lane) -> str:
    """The summary of a lane, cut to the margin."""
    if lane.kind == "routine":
        # what a call returned is no list
        cut = lane.summary[: _MARGIN - 3].rstrip(" ,")
        return lane.summary if len(lane.summary) <= _MARGIN else f"{cut}..."
    shown = ""
    for part in lane.summary.split(", "):
        longer = f"{shown}, {part}" if shown else part
        if len(longer) > _MARGIN:
            break
        shown = longer
    return shown or lane.summary[: _MARGIN - 3].rstrip() + "..."
