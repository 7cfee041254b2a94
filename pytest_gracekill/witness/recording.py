"""A history read back from its file.

Anything but what `History.write` wrote is a usage error that names the file and the line.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from pytest_gracekill.errors import UsageError
from pytest_gracekill.witness.history import (
    FORMAT,
    VERSION,
    Event,
    Frame,
    Hold,
    Wait,
    write_events,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from os import PathLike


class Recording:
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

    def write(self, path: str | PathLike[str]) -> None:
        """Write it again; the file is the same."""
        write_events(path, self.origin_ns, self._events)


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
    for event in recording.events():
        if not _is_whole(event):
            raise _DamagedError(f"a {event.kind} is incomplete: {dict(event.fields)}"[:160])
    return recording


#: What a hold and a wait must have besides their lock and site.
_FIELDS = {"hold": {"released_ns"}, "wait": {"until_ns", "acquired", "timed"}}
_FRAME = {"file", "line", "function"}


def _is_whole(event: Event) -> bool:
    """Whether a hold or a wait can be made of it; looked at without making a hundred thousand."""
    needed = _FIELDS.get(event.kind)
    if needed is None:
        return True
    fields = event.fields
    site = fields.get("site")
    return (
        fields.keys() >= needed
        and isinstance(fields.get("lock"), str)
        and isinstance(site, list)
        and all(isinstance(row, dict) and row.keys() == _FRAME for row in site)
    )


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
