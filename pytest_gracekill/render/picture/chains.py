"""From each wait to the lane of the lock's owner, and which of these tell why somebody stalled."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_gracekill.render.picture.records import Link

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gracekill.render.picture.records import Lane, Span


def links(lanes: Sequence[Lane]) -> tuple[Link, ...]:
    """A link for each wait whose owner is known; the longest chain of a stall is marked."""
    known = {lane.key: lane for lane in lanes}
    found = [
        Link(
            source=lane.key,
            target=span.owner,
            lock=span.lock,
            since=span.since,
            until=span.until,
        )
        for lane in lanes
        for span in lane.spans
        if span.kind in ("waits", "stalls")
        and span.lock is not None
        and span.owner is not None
        and span.owner in known
    ]
    because = _why(known)
    return tuple(
        replace(link, because=True) if (link.source, link.since, link.lock) in because else link
        for link in found
    )


def _why(lanes: dict[str, Lane]) -> set[tuple[str, float, str | None]]:
    """The waits of the longest chain: who stood behind whom tells most."""
    chains = [
        tuple(_behind(lanes, lane, span, frozenset()))
        for lane in lanes.values()
        for span in lane.spans
        if span.kind == "stalls"
    ]
    best = max(chains, key=lambda chain: (len(chain), -chain[0][1]), default=())
    return {(key, since, lock) for key, since, lock in best}


def _behind(
    lanes: dict[str, Lane], lane: Lane, span: Span, passed: frozenset[str]
) -> Iterator[tuple[str, float, str | None]]:
    """A wait, and the one in which the owner of its lock stands meanwhile, and so on."""
    yield lane.key, span.since, span.lock
    owner = lanes.get(span.owner or "")
    if owner is None or owner.key in passed:
        return
    waits = [
        (min(other.until, span.until) - max(other.since, span.since), other)
        for other in owner.spans
        if other.kind in ("waits", "stalls") and other.lock is not None
    ]
    overlap, other = max(waits, key=lambda row: row[0], default=(0.0, None))
    if other is not None and overlap > span.seconds / 2:
        yield from _behind(lanes, owner, other, passed | {lane.key})
