"""The lane of each lock: its owner over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.counted import counted
from pytest_gracekill.render.picture.gathered import place
from pytest_gracekill.render.picture.records import Lane, Span, stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_gracekill.render.picture.gathered import Gathered, Held
    from pytest_gracekill.render.picture.people import People
    from pytest_gracekill.render.picture.room import Room

#: Seconds of a wait from which on its lock matters.
_LONG = 0.05


def names(seen: Gathered, people: People) -> tuple[list[str], list[str]]:
    """The locks that matter, the contested ones first, and those that nobody had to do with.

    It matters which locks the callers had during the call, and which somebody waited for for long.
    """
    longest: dict[str, float] = {}
    for rows in seen.waits.values():
        for wait in rows:
            took = seen.last if wait.until is None else wait.until
            longest[wait.lock] = max(longest.get(wait.lock, 0.0), took - wait.since)
    known = list(dict.fromkeys((*seen.holds, *longest)))
    called = {lock for lock in known if _had(seen, people, lock)}
    if not people.callers:
        return known, []
    matter = [lock for lock in known if lock in called or longest.get(lock, 0.0) > _LONG]
    matter.sort(key=lambda lock: (lock not in called, -longest.get(lock, 0.0)))
    return matter, [lock for lock in known if lock not in matter]


def _had(seen: Gathered, people: People, lock: str) -> bool:
    """Whether a caller of the routine had it after the call."""
    return any(
        hold.actor in people.callers and (hold.until is None or hold.until > 0.0)
        for hold in seen.holds.get(lock, ())
    )


def rest(names_: Sequence[str], seen: Gathered, room: Room) -> Lane | None:
    """The lane of all locks that do not matter, together."""
    held = [hold for lock in names_ for hold in seen.holds.get(lock, ())]
    if not held:
        return None
    what = counted(len(names_), "more lock")
    return Lane(
        key="locks",
        kind="lock",
        name=what,
        summary=f"taken {_times(len(held))}, nobody waited for long",
        density=room.density(
            "holds", [(h.since, room.end if h.until is None else h.until) for h in held]
        ),
    )


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
    taken = place(hold.site)
    where = f", taken at {taken}" if taken else ""
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
    told = f"{len(waiters)} waited for it, " if waiters else ""
    return f"{told}taken {_times(len(holds))} by {len({hold.actor for hold in holds})}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
