"""The events of a history, sorted by what they are about; times in seconds after the call.

Tolerant of what it does not know: an event of a later version, or of another producer, is kept as
it is, and an event that lacks a field says what it can.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_gracekill.render.folder import Story
    from pytest_gracekill.witness.history import Event

#: Who the VM's own words are by.
FAKE = "fake"


class Held(NamedTuple):
    """A thread held a lock; ``until`` is None where no end was seen."""

    since: float
    until: float | None
    actor: str
    lock: str
    site: object


class Waited(NamedTuple):
    """A thread waited for a lock; ``until`` is None where no end was seen."""

    since: float
    until: float | None
    actor: str
    lock: str
    site: object
    acquired: bool


class Stood(NamedTuple):
    """A thread stood in one place."""

    since: float
    until: float
    actor: str
    where: str
    code: str
    busy: float


class Worked(NamedTuple):
    """What a contender has done: its name, and from when until when each operation took."""

    actor: str
    name: str
    by_latency: bool
    spans: tuple[tuple[float, float], ...]


class Noted(NamedTuple):
    """Any other event."""

    at: float
    kind: str
    actor: str
    fields: Mapping[str, object]


class Gathered:
    """A history, sorted: holds by lock, waits by thread, the VM's own words, the rest."""

    def __init__(self, story: Story) -> None:
        self.origin_ns = story.origin_ns
        self.holds: dict[str, list[Held]] = defaultdict(list)
        self.waits: dict[str, list[Waited]] = defaultdict(list)
        self.stands: dict[str, list[Stood]] = defaultdict(list)
        self.works: list[Worked] = []
        self.of_fake: list[Noted] = []
        self.others: list[Noted] = []
        self.number = 0
        #: Every thread, in the order in which each first did something.
        self.actors: dict[str, None] = {}
        for event in story.events():
            self._take(event)

    def seconds(self, at_ns: int) -> float:
        """A moment of the history in seconds after the call."""
        return (at_ns - self.origin_ns) / 1e9

    def of_kind(self, *kinds: str) -> list[Noted]:
        """The events of these kinds that are not the VM's, by time."""
        return [noted for noted in self.others if noted.kind in kinds]

    def by_fake(self, *kinds: str) -> list[Noted]:
        """The VM's own events of these kinds, by time."""
        return [noted for noted in self.of_fake if noted.kind in kinds]

    @property
    def first(self) -> float:
        """When the first event was; 0 where there is none."""
        moments = [noted.at for noted in (*self.of_fake[:1], *self.others[:1])]
        moments += [rows[0].since for rows in self.holds.values()]
        moments += [rows[0].since for rows in self.waits.values()]
        return min(moments, default=0.0)

    @property
    def last(self) -> float:
        """When the last thing on record ended."""
        moments = [noted.at for noted in (*self.of_fake[-1:], *self.others[-1:])]
        for held in self.holds.values():
            moments += [max(hold.since if hold.until is None else hold.until for hold in held)]
        for waited in self.waits.values():
            moments += [max(wait.since if wait.until is None else wait.until for wait in waited)]
        return max(moments, default=0.0)

    def _take(self, event: Event) -> None:
        at, fields, actor = self.seconds(event.at_ns), event.fields, event.actor
        self.number += 1
        if actor == FAKE:
            self.of_fake.append(Noted(at, event.kind, actor, fields))
            return
        if event.kind == "step":
            return  # what a schedule's steps say has become events (`schedule`)
        self.actors.setdefault(actor)
        if event.kind == "hold":
            lock = str(fields.get("lock"))
            until = self._moment(fields.get("released_ns"))
            self.holds[lock].append(Held(at, until, actor, lock, fields.get("site")))
        elif event.kind == "wait":
            lock = str(fields.get("lock"))
            until = self._moment(fields.get("until_ns"))
            site, acquired = fields.get("site"), bool(fields.get("acquired"))
            self.waits[actor].append(Waited(at, until, actor, lock, site, acquired))
        elif event.kind == "stand":
            until = self._moment(fields.get("until_ns"))
            busy = fields.get("busy")
            self.stands[actor].append(
                Stood(
                    at,
                    at if until is None else until,
                    actor,
                    place(fields.get("site")),
                    str(fields.get("code", "")),
                    float(busy) if isinstance(busy, int | float) else 0.0,
                )
            )
        elif event.kind == "operations":
            self.works.append(self._worked(actor, fields))
        else:
            self.others.append(Noted(at, event.kind, actor, fields))

    def _moment(self, at_ns: object) -> float | None:
        return self.seconds(at_ns) if isinstance(at_ns, int) else None

    def _worked(self, actor: str, fields: Mapping[str, object]) -> Worked:
        spans = fields.get("spans")
        rows = spans if isinstance(spans, list) else []
        return Worked(
            actor,
            str(fields.get("name", actor)),
            bool(fields.get("by_latency")),
            tuple((self.seconds(row[0]), self.seconds(row[1])) for row in rows if _is_span(row)),
        )


def _is_span(row: object) -> bool:
    """Whether it says from when until when, in nanoseconds."""
    return (
        isinstance(row, list | tuple)
        and len(row) == 2  # noqa: PLR2004 - both ends
        and all(isinstance(end, int) for end in row)
    )


def place(site: object) -> str:
    """Where in the code, the same on every machine: the last folder, the file, line and function.

    The first function with a public name, else the innermost.
    """
    if isinstance(site, str):
        return site
    rows = [row for row in site if isinstance(row, dict)] if isinstance(site, list) else []
    public = [row for row in rows if str(row.get("function")).rpartition(".")[2][:1] != "_"]
    for row in (public or rows)[:1]:
        folder, _, name = str(row.get("file")).rpartition("/")
        short = f"{folder.rpartition('/')[2]}/{name}" if folder else name
        return f"{short}:{row.get('line')} in {row.get('function')}"
    return ""


def number_of(noted: Noted, name: str) -> int | None:
    """An integer field of an event."""
    value = noted.fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
