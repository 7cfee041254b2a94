"""The journal as it is read: what the fake did and saw, in its own words and on our clock."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the journal."""

    at_ns: int
    event: str
    fields: Mapping[str, object]

    def __str__(self) -> str:
        shown = " ".join(f"{name}={value}" for name, value in self.fields.items())
        return f"{self.at_ns / 1e9:.6f} {self.event} {shown}".rstrip()

    def number(self, name: str) -> int:
        """Return an integer field; -1 where there is none."""
        value = self.fields.get(name)
        return value if isinstance(value, int) else -1


def first_run(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """The entries of the VM that was started first, without those of a start after its end."""
    starts = [place for place, entry in enumerate(entries) if entry.event == "start"]
    return tuple(entries[: starts[1]] if len(starts) > 1 else entries)


class Journal:
    """A journal file; it may still be growing, be damaged, or be missing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[Entry]:
        """Return all lines that are whole and well-formed, oldest first.

        A last line without its end of line is being written, and comes with the next call.
        """
        try:
            data = self.path.read_bytes()
        except OSError:
            return []
        lines = data.split(b"\n")[:-1]
        return [entry for line in lines if (entry := _parse(line)) is not None]

    def last(self, event: str) -> Entry | None:
        """Return the last line of this kind."""
        return next((entry for entry in reversed(self.entries()) if entry.event == event), None)

    def __str__(self) -> str:
        return f"journal {self.path}"


def _parse(line: bytes) -> Entry | None:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    at_ns, event = fields.pop("ns", None), fields.pop("event", None)
    if not isinstance(at_ns, int) or not isinstance(event, str):
        return None
    return Entry(at_ns=at_ns, event=event, fields=fields)
