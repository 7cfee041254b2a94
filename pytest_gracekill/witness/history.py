"""What happened in a trial, in one append-only list of events on one clock.

Traced locks append raw tuples to plain lists, everybody else calls `record`. `list.append` is
atomic under the GIL, so no lock is needed, and none may be: a signal handler or a finalizer
may record while its own thread is recording. Raw tuples are turned into records only when read.

The clock is `clock.monotonic_ns`: CLOCK_MONOTONIC on Linux, the same for all processes. The actor
of a lock event is the name that the thread had when it first used a traced lock.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pytest_gracekill.clock import monotonic_ns
from pytest_gracekill.witness.sites import Frame, Site, current_stack, frames_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from os import PathLike

    from pytest_gracekill.witness.traced_lock import TracedLock
    from pytest_gracekill.witness.wait_graph import ThreadState

__all__ = ["Event", "Frame", "History", "Hold", "Wait", "current_stack", "write_events"]

#: Who holds a lock when nobody knows who.
UNTRACED = "an unknown thread"

FORMAT = "gracekill-history"
VERSION = 1


# who holds it, since when, taken where
RawHold: TypeAlias = "tuple[ThreadState, int, Site]"
# lock, hold, released_ns
RawHeld: TypeAlias = "tuple[TracedLock, RawHold, int | None]"
# lock, thread, since_ns, until_ns, acquired, timed, site
RawWait: TypeAlias = "tuple[TracedLock, ThreadState, int, int | None, bool, bool, Site]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a history."""

    at_ns: int
    kind: str
    actor: str
    fields: Mapping[str, object]

    def __str__(self) -> str:
        fields = " ".join(f"{name}={value}" for name, value in self.fields.items())
        return f"{self.at_ns} {self.actor} {self.kind} {fields}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A lock was held by one thread; `released_ns` is None while it still is.

    ``traced`` is False where it was held through a reference that is not traced: ``untraced`` then
    names the reference, as far as it is known, and the actor may be `UNTRACED`.
    """

    lock: str
    actor: str
    acquired_ns: int
    released_ns: int | None
    site: tuple[Frame, ...]
    traced: bool = True
    untraced: str = ""

    def __str__(self) -> str:
        return f"{self.actor} held {self.lock} {_span(self.acquired_ns, self.released_ns)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A thread waited for a lock; `until_ns` is None while it still does."""

    lock: str
    actor: str
    since_ns: int
    until_ns: int | None
    acquired: bool
    timed: bool
    site: tuple[Frame, ...]

    def __str__(self) -> str:
        got = "and got it" if self.acquired else "in vain"
        return (
            f"{self.actor} waited for {self.lock} {_span(self.since_ns, self.until_ns)}"
            f"{'' if self.until_ns is None else ', ' + got}"
        )


def write_events(path: str | PathLike[str], origin_ns: int, events: Iterable[Event]) -> None:
    """Write JSON lines: a header, then one event per line, with `t` seconds after the origin.

    A value that JSON does not know is written as its `str()`. `recording.load` reads it back.
    """
    header = {"format": FORMAT, "version": VERSION, "origin_ns": origin_ns}
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 (a Path is not needed)
        file.write(json.dumps(header) + "\n")
        for event in events:
            line = {
                "t": round((event.at_ns - origin_ns) / 1e9, 9),
                "ns": event.at_ns,
                "kind": event.kind,
                "actor": event.actor,
                "fields": dict(event.fields),
            }
            file.write(json.dumps(line, default=str) + "\n")


class History:
    """The events of one trial.

    :ivar origin_ns: the moment from which times are told; set it to the call of the routine.
    """

    def __init__(self) -> None:
        self.origin_ns = monotonic_ns()
        self.raw_holds: list[RawHeld] = []
        self.raw_waits: list[RawWait] = []
        self._events: list[tuple[int, str, str, dict[str, object]]] = []
        self._open: list[Callable[[], tuple[list[RawHeld], list[RawWait]]]] = []

    def record(self, kind: str, actor: str, /, at_ns: int | None = None, **fields: object) -> None:
        """Append an event; `fields` must be JSON-able, `at_ns` is now unless given."""
        self._events.append((monotonic_ns() if at_ns is None else at_ns, kind, actor, fields))

    def watch(self, still_open: Callable[[], tuple[list[RawHeld], list[RawWait]]]) -> None:
        """Ask `still_open` for the holds and waits that have not ended, whenever they are read."""
        self._open.append(still_open)

    @property
    def holds(self) -> list[Hold]:
        """Every hold of a traced lock by the time it began; one still open has no end."""
        return _holds(self._held())

    @property
    def waits(self) -> list[Wait]:
        """Every wait for a traced lock by the time it began; one still open has no end."""
        return _waits(self._waited())

    def long_holds(self, shortest_ns: int, *, always: str) -> list[Hold]:
        """As ``holds``, without short ones (most are), unless by the actor ``always``."""
        return _holds(
            [
                held
                for held in self._held()
                if held[2] is None
                or held[2] - held[1][1] >= shortest_ns
                or held[1][0].name == always
            ]
        )

    def long_waits(self, shortest_ns: int) -> list[Wait]:
        """As ``waits``, without short ones."""
        return _waits(
            [wait for wait in self._waited() if wait[3] is None or wait[3] - wait[2] >= shortest_ns]
        )

    def every_hold(self) -> list[RawHeld]:
        """As ``holds``, raw."""
        return self._held()

    def every_wait(self) -> list[RawWait]:
        """As ``waits``, raw."""
        return self._waited()

    def _held(self) -> list[RawHeld]:
        still_open = [held for source in self._open for held in source()[0]]
        finished = list(self.raw_holds)
        # a lock may be released between the two looks: then the finished hold is the truth
        known = {id(held[1]) for held in finished} if still_open else set()
        rows = finished + [held for held in still_open if id(held[1]) not in known]
        rows.sort(key=lambda held: held[1][1])
        return rows

    def _waited(self) -> list[RawWait]:
        still_open = [wait for source in self._open for wait in source()[1]]
        finished = list(self.raw_waits)
        known = {(id(wait[0]), id(wait[1]), wait[2]) for wait in finished} if still_open else set()
        rows = finished + [
            wait for wait in still_open if (id(wait[0]), id(wait[1]), wait[2]) not in known
        ]
        rows.sort(key=lambda wait: wait[2])
        return rows

    def events(self) -> list[Event]:
        """All events by time; those of the same nanosecond in the order of their recording."""
        events = [
            Event(at_ns=at_ns, kind=kind, actor=actor, fields=fields)
            for at_ns, kind, actor, fields in list(self._events)
        ]
        events += [_event_of(hold) for hold in self.holds]
        events += [_event_of(wait) for wait in self.waits]
        return sorted(events, key=lambda event: event.at_ns)

    def write(self, path: str | PathLike[str]) -> None:
        """Write all events as JSON lines; see `write_events`."""
        write_events(path, self.origin_ns, self.events())


def _holds(rows: list[RawHeld]) -> list[Hold]:
    frames: dict[tuple[int, int], Frame] = {}
    return [
        Hold(
            lock=lock.name,
            actor=hold[0].name,
            acquired_ns=hold[1],
            released_ns=released_ns,
            site=frames_of(hold[2], frames),
        )
        for lock, hold, released_ns in rows
    ]


def _waits(rows: list[RawWait]) -> list[Wait]:
    frames: dict[tuple[int, int], Frame] = {}
    return [
        Wait(
            lock=lock.name,
            actor=thread.name,
            since_ns=since_ns,
            until_ns=until_ns,
            acquired=acquired,
            timed=timed,
            site=frames_of(site, frames),
        )
        for lock, thread, since_ns, until_ns, acquired, timed, site in rows
    ]


def _event_of(happened: Hold | Wait) -> Event:
    site = [
        {"file": frame.file, "line": frame.line, "function": frame.function}
        for frame in happened.site
    ]
    fields: dict[str, object]
    if isinstance(happened, Hold):
        at_ns, kind = happened.acquired_ns, "hold"
        fields = {"lock": happened.lock, "released_ns": happened.released_ns, "site": site}
    else:
        at_ns, kind = happened.since_ns, "wait"
        fields = {
            "lock": happened.lock,
            "until_ns": happened.until_ns,
            "acquired": happened.acquired,
            "timed": happened.timed,
            "site": site,
        }
    return Event(at_ns=at_ns, kind=kind, actor=happened.actor, fields=fields)


def _span(since_ns: int, until_ns: int | None) -> str:
    return "until now" if until_ns is None else f"for {(until_ns - since_ns) / 1e9:.6f} s"
