"""The lane of each lock: its owner over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.render.picture.records import Lane, Span, stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_gracekill.render.picture.gathered import Gathered, Held
    from pytest_gracekill.render.picture.people import People
    from pytest_gracekill.render.picture.room import Room


def names(seen: Gathered, people: People) -> list[str]:
    """The locks, those first that the routine had, then those that somebody waited for."""
    waited = {wait.lock for rows in seen.waits.values() for wait in rows}
    known = list(dict.fromkeys((*seen.holds, *waited)))

    def rank(lock: str) -> int:
        if any(hold.actor == people.routine for hold in seen.holds.get(lock, ())):
            return 0 if lock in waited else 1
        return 2 if lock in waited else 3

    return sorted(known, key=rank)


def lane(lock: str, seen: Gathered, people: People, room: Room) -> Lane:
    """The lane of one lock."""
    holds = seen.holds.get(lock, [])

    def ends(hold: Held) -> tuple[float, float]:
        return hold.since, room.end if hold.until is None else hold.until

    drawn, counted = room.split(holds, ends)
    waiters = {
        people.name(wait.actor)
        for rows in seen.waits.values()
        for wait in rows
        if wait.lock == lock
    }
    return Lane(
        key=f"lock {lock}",
        kind="lock",
        name=f"lock {lock}",
        summary=_summary(holds, waiters),
        spans=tuple(_span(hold, people, room) for hold in drawn),
        density=room.density("holds", [ends(hold) for hold in counted]),
    )


def _span(hold: Held, people: People, room: Room) -> Span:
    until = room.end if hold.until is None else hold.until
    how_long = "and still held" if hold.until is None else f"to {stamp(until)}"
    where = f", taken at {hold.where}" if hold.where else ""
    return Span(
        since=hold.since,
        until=until,
        kind="held",
        text=f"{hold.lock} held by {people.name(hold.actor)} from {stamp(hold.since)} {how_long}"
        f" ({until - hold.since:.3f} s){where}",
        lock=hold.lock,
        owner=people.key(hold.actor),
        open=hold.until is None,
    )


def _summary(holds: Sequence[Held], waiters: set[str]) -> str:
    times = "once" if len(holds) == 1 else f"{len(holds)} times"
    wanted = f", waited for by {len(waiters)}" if waiters else ""
    return f"taken {times} by {len({hold.actor for hold in holds})}{wanted}"
