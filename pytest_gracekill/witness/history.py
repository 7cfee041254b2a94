"""What happened in a trial, in one append-only list of events on one clock.

Traced locks append raw tuples to plain lists, everybody else calls `record`. `list.append` is
atomic under the GIL, so no lock is needed, and none may be: a signal handler or a finalizer
may record while its own thread is recording. Raw tuples are turned into records only when read.

The clock is `time.monotonic_ns`: CLOCK_MONOTONIC on Linux, the same for all processes. The actor
of a lock event is the name that the thread had when it first used a traced lock.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from time import monotonic_ns
from typing import TYPE_CHECKING, TypeAlias, cast

from pytest_gracekill.errors import UsageError
from pytest_gracekill.witness.sites import Frame, Site, current_stack, frames_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from os import PathLike

    from pytest_gracekill.witness.traced_lock import TracedLock
    from pytest_gracekill.witness.wait_graph import ThreadState

__all__ = ["Event", "Frame", "History", "Hold", "Recording", "Wait", "current_stack", "load"]

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
    """A lock was held by one thread; `released_ns` is None while it still is."""

    lock: str
    actor: str
    acquired_ns: int
    released_ns: int | None
    site: tuple[Frame, ...]

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


class _LockEvents:
    """Lock events as people and programs read them; shared by a live history and a loaded one."""

    origin_ns: int

    def events(self) -> list[Event]:
        raise NotImplementedError

    def write(self, path: str | PathLike[str]) -> None:
        """Write JSON lines: a header, then one event per line, with `t` seconds after the origin.

        A value that JSON does not know is written as its `str()`.
        """
        header = {"format": FORMAT, "version": VERSION, "origin_ns": self.origin_ns}
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 (a Path is not needed)
            file.write(json.dumps(header) + "\n")
            for event in self.events():
                line = {
                    "t": round((event.at_ns - self.origin_ns) / 1e9, 9),
                    "ns": event.at_ns,
                    "kind": event.kind,
                    "actor": event.actor,
                    "fields": dict(event.fields),
                }
                file.write(json.dumps(line, default=str) + "\n")


class History(_LockEvents):
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
        still_open = [held for source in self._open for held in source()[0]]
        finished = list(self.raw_holds)
        # a lock may be released between the two looks: then the finished hold is the truth
        known = {id(held[1]) for held in finished}
        rows = finished + [held for held in still_open if id(held[1]) not in known]
        rows.sort(key=lambda held: held[1][1])
        return [
            Hold(
                lock=lock.name,
                actor=hold[0].name,
                acquired_ns=hold[1],
                released_ns=released_ns,
                site=frames_of(hold[2]),
            )
            for lock, hold, released_ns in rows
        ]

    @property
    def waits(self) -> list[Wait]:
        """Every wait for a traced lock by the time it began; one still open has no end."""
        still_open = [wait for source in self._open for wait in source()[1]]
        finished = list(self.raw_waits)
        known = {(id(wait[0]), id(wait[1]), wait[2]) for wait in finished}
        rows = finished + [
            wait for wait in still_open if (id(wait[0]), id(wait[1]), wait[2]) not in known
        ]
        rows.sort(key=lambda wait: wait[2])
        return [
            Wait(
                lock=lock.name,
                actor=thread.name,
                since_ns=since_ns,
                until_ns=until_ns,
                acquired=acquired,
                timed=timed,
                site=frames_of(site),
            )
            for lock, thread, since_ns, until_ns, acquired, timed, site in rows
        ]

    def events(self) -> list[Event]:
        """All events by time; those of the same nanosecond in the order of their recording."""
        events = [
            Event(at_ns=at_ns, kind=kind, actor=actor, fields=fields)
            for at_ns, kind, actor, fields in list(self._events)
        ]
        events += [_event_of(hold) for hold in self.holds]
        events += [_event_of(wait) for wait in self.waits]
        return sorted(events, key=lambda event: event.at_ns)


class Recording(_LockEvents):
    """A history read from a file."""

    def __init__(self, origin_ns: int, events: Iterable[Event]) -> None:
        self.origin_ns = origin_ns
        self._events = list(events)

    def events(self) -> list[Event]:
        """All events by time."""
        return list(self._events)

    @property
    def holds(self) -> list[Hold]:
        """Every hold of a traced lock by the time it began."""
        return [_hold_of(event) for event in self._events if event.kind == "hold"]

    @property
    def waits(self) -> list[Wait]:
        """Every wait for a traced lock by the time it began."""
        return [_wait_of(event) for event in self._events if event.kind == "wait"]


def load(path: str | PathLike[str]) -> Recording:
    """Read a history that `write` wrote; anything else is a `UsageError` that names the line."""
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 (a Path is not needed)
            return _read(file)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not a history: {error}") from error
    except _DamagedError as error:
        raise UsageError(f"{path} is not a history: {error}") from error


class _DamagedError(ValueError):
    pass


def _read(lines: Iterator[str]) -> Recording:
    header = _object(1, next(lines, ""))
    if header.get("format") != FORMAT:
        raise _DamagedError(f'line 1 has no "format": "{FORMAT}"')
    if header.get("version") != VERSION:
        raise _DamagedError(f"its version is {header.get('version')!r}, this one reads {VERSION}")
    origin_ns = header.get("origin_ns")
    if not isinstance(origin_ns, int):
        raise _DamagedError(f"line 1 has no origin_ns but {origin_ns!r}")
    recording = Recording(
        origin_ns, [_event(number, line) for number, line in enumerate(lines, start=2)]
    )
    try:
        _ = recording.holds, recording.waits
    except (KeyError, TypeError, ValueError) as error:
        raise _DamagedError(f"a hold or wait is incomplete: {error!r}") from error
    return recording


def _object(number: int, line: str) -> dict[str, object]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise _DamagedError(f"line {number} is no JSON ({error})") from error
    if not isinstance(value, dict):
        raise _DamagedError(f"line {number} is no JSON object but {value!r}")
    return value


def _event(number: int, line: str) -> Event:
    row = _object(number, line)
    at_ns, kind, actor, fields = (row.get(key) for key in ("ns", "kind", "actor", "fields"))
    if not (
        isinstance(at_ns, int)
        and isinstance(kind, str)
        and isinstance(actor, str)
        and isinstance(fields, dict)
    ):
        raise _DamagedError(f"line {number} is no event: {line.strip()[:80]}")
    return Event(at_ns=at_ns, kind=kind, actor=actor, fields=fields)


def _event_of(happened: Hold | Wait) -> Event:
    fields: dict[str, object] = asdict(happened)
    began = "acquired_ns" if isinstance(happened, Hold) else "since_ns"
    at_ns, actor = cast("int", fields.pop(began)), cast("str", fields.pop("actor"))
    kind = "hold" if isinstance(happened, Hold) else "wait"
    return Event(at_ns=at_ns, kind=kind, actor=actor, fields=fields)


def _hold_of(event: Event) -> Hold:
    fields = event.fields
    return Hold(
        lock=cast("str", fields["lock"]),
        actor=event.actor,
        acquired_ns=event.at_ns,
        released_ns=cast("int | None", fields["released_ns"]),
        site=_site_of(fields["site"]),
    )


def _wait_of(event: Event) -> Wait:
    fields = event.fields
    return Wait(
        lock=cast("str", fields["lock"]),
        actor=event.actor,
        since_ns=event.at_ns,
        until_ns=cast("int | None", fields["until_ns"]),
        acquired=bool(fields["acquired"]),
        timed=bool(fields["timed"]),
        site=_site_of(fields["site"]),
    )


def _site_of(rows: object) -> tuple[Frame, ...]:
    return tuple(Frame(**row) for row in cast("list[dict[str, object]]", rows))  # type: ignore[arg-type]


def _span(since_ns: int, until_ns: int | None) -> str:
    return "until now" if until_ns is None else f"for {(until_ns - since_ns) / 1e9:.6f} s"
