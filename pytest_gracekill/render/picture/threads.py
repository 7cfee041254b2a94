"""The lanes of the threads: what the routine does, what contenders get done, who waits for what."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from pytest_gracekill.render.picture.gathered import place
from pytest_gracekill.render.picture.records import Lane, Mark, Span, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gracekill.render.picture.gathered import Gathered, Noted, Stood, Waited, Worked
    from pytest_gracekill.render.picture.owners import Owners
    from pytest_gracekill.render.picture.people import People
    from pytest_gracekill.render.picture.records import LaneKind
    from pytest_gracekill.render.picture.room import Room
    from pytest_gracekill.render.record import Record

#: From this share of its time on a thread works rather than stands.
_BUSY = 0.5
#: A wait that is longer than half of the call, and than this, is a standstill.
_SHORTEST_STALL = 0.25
_STALL_SHARE = 0.5
#: What is told of an event that has no words of its own.
_FIELDS = 3


class Threads:
    """Makes the lanes of threads."""

    def __init__(
        self, seen: Gathered, record: Record, people: People, owners: Owners, room: Room
    ) -> None:
        self._seen = seen
        self._people = people
        self._owners = owners
        self._room = room
        self._virtual = record.clock == "virtual"
        self._works: dict[str, Worked] = {work.actor: work for work in seen.works}
        self.calls = self._called(record)
        ends = [until for rows in self.calls.values() for _, until, _ in rows]
        self.returned = max(ends, default=None)
        self._whole = max(self.returned or 0.0, 0.0)

    def _called(self, record: Record) -> dict[str, list[tuple[float, float, str]]]:
        """Each caller's calls: from when, until when, and what came of it."""
        calls: dict[str, list[tuple[float, float, str]]] = {}
        for call in record.calls:
            since = self._seen.seconds(call.called_ns)
            until = self._seen.seconds(call.returned_ns)
            told = f"cut off, {call.told}" if call.cut_off else call.told
            calls.setdefault(call.actor, []).append((since, until, told))
        if calls:
            return calls
        returns = self._seen.of_kind("return")
        for event in self._seen.of_kind("call"):
            after = [r.at for r in returns if r.actor == event.actor and r.at >= event.at]
            row = event.at, min(after, default=self._room.end), "returned" if after else "open"
            calls.setdefault(event.actor, []).append(row)
        return calls

    def lane(self, actor: str, kind: LaneKind) -> Lane:
        """The lane of one thread."""
        waits, short_waits = self._room.split(self._seen.waits.get(actor, []), self._ends)
        spans = [*self._call_spans(actor), *self._stood(actor), *self._holds(actor)]
        spans += [self._wait(wait) for wait in waits]
        long, short = self._operations(actor, waits)
        spans += long
        what, counted = "operations", short
        if actor not in self._works and not short:
            what, counted = "waits", [self._ends(wait) for wait in short_waits]
        return Lane(
            key=self._people.key(actor),
            kind=kind,
            name=self._people.name(actor),
            summary=self._summary(actor, spans),
            spans=tuple(sorted(spans, key=lambda span: (span.since, -span.until))),
            marks=tuple(
                sorted(
                    (m for m in self._marks(actor) if self._room.inside(m.at, m.at)),
                    key=lambda mark: mark.at,
                )
            ),
            density=self._room.density(what, counted),
        )

    def _ends(self, wait: Waited) -> tuple[float, float]:
        return wait.since, self._room.end if wait.until is None else wait.until

    # -- the routine, and further callers

    def _call_spans(self, actor: str) -> Iterator[Span]:
        for since, until, told in self.calls.get(actor, []):
            text = f"called at {stamp(since)}, {until - since:.3f} s: {told}"
            yield Span(since=since, until=until, kind="call", text=text)

    def _stood(self, actor: str) -> Iterator[Span]:
        for stood in self._room.split(self._seen.stands.get(actor, []), _stood_from_to)[0]:
            kind = _posture(stood)
            code = f" ({stood.code})" if stood.code else ""
            yield Span(
                since=stood.since,
                until=stood.until,
                kind=kind,
                text=f"{kind} for {stood.until - stood.since:.3f} s at {stood.where}{code}",
            )

    def _holds(self, actor: str) -> Iterator[Span]:
        """What a caller holds, as one line of time: the locks' own lanes say it one by one."""
        if actor not in self.calls:
            return
        held = [
            (hold.since, self._room.end if hold.until is None else hold.until, lock)
            for lock, rows in self._seen.holds.items()
            for hold in self._room.split(rows, lambda h: (h.since, h.until or self._room.end))[0]
            if hold.actor == actor
        ]
        moments = sorted({moment for since, until, _ in held for moment in (since, until)})
        last: tuple[float, float, tuple[str, ...]] | None = None
        for since, until in pairwise(moments):
            now = tuple(lock for a, b, lock in held if a <= since and b >= until)
            if last is not None and last[2] == now:
                last = last[0], until, now
                continue
            yield from _holding(last)
            last = since, until, now
        yield from _holding(last)

    # -- waits and operations

    def _wait(self, wait: Waited) -> Span:
        since, until = self._ends(wait)
        hold = self._owners.longest(wait.lock, since, until, but=wait.actor)
        by = "" if hold is None else f", held by {self._people.name(hold.actor)}"
        for_good = self._virtual and wait.until is None
        stalls = for_good or self._is_stall(since, until)
        seconds = f" {until - since:.3f} s"
        verb = "stood still, waited" if stalls else "waited"
        how = "" if wait.acquired else ", and did not get it"
        if for_good:
            verb, seconds, how = "stands still, waits", " for ever", ""
        when = f"from {stamp(since)} on" if for_good else f"{stamp(since)} to {stamp(until)}"
        stood = place(wait.site)
        where = f", at {stood}" if stood else ""
        return Span(
            since=since,
            until=until,
            kind="stalls" if stalls else "waits",
            text=f"{self._people.name(wait.actor)} {verb}{seconds} for {wait.lock}"
            f"{by} ({when}){how}{where}",
            lock=wait.lock,
            owner=None if hold is None else self._people.key(hold.actor),
            open=wait.until is None,
        )

    def _is_stall(self, since: float, until: float) -> bool:
        within = min(until, self._whole) - max(since, 0.0)
        return within >= max(self._whole * _STALL_SHARE, _SHORTEST_STALL)

    def _operations(
        self, actor: str, waits: Sequence[Waited]
    ) -> tuple[list[Span], list[tuple[float, float]]]:
        """Long operations that no wait explains, one by one, and the ends of all others."""
        work = self._works.get(actor)
        if work is None:
            return [], []
        width = self._room.length / 100
        long: list[tuple[float, float]] = []
        for since, until in work.spans:
            if until - since < width:
                continue
            if not any(self._ends(w)[0] < until and self._ends(w)[1] > since for w in waits):
                long.append((since, until))
        drawn, _ = self._room.split(long, lambda ends: ends)
        spans = [self._operation(work, since, until) for since, until in drawn]
        kept = set(drawn)
        return spans, [ends for ends in work.spans if ends not in kept]

    def _operation(self, work: Worked, since: float, until: float) -> Span:
        stalls = work.by_latency and self._is_stall(since, until)
        return Span(
            since=since,
            until=until,
            kind="stalls" if stalls else "operation",
            text=f"{work.name}: {'stood still, ' if stalls else ''}one operation took"
            f" {until - since:.3f} s ({stamp(since)} to {stamp(until)})",
        )

    # -- marks and words

    def _marks(self, actor: str) -> Iterator[Mark]:
        for since, until, told in self.calls.get(actor, []):
            yield Mark(at=since, kind="call", label="call", text="the routine was called")
            cut = told.startswith("cut off")
            kind, label = ("cut off", "cut off") if cut else ("return", "return")
            if told != "open":
                yield Mark(at=until, kind=kind, label=label, text=told, bad=cut)
        for event in self._seen.others:
            if event.actor == actor and event.kind not in ("call", "return", "signal"):
                yield _event_mark(event)

    def _summary(self, actor: str, spans: Sequence[Span]) -> str:
        told = [row[2] for row in self.calls.get(actor, [])]
        stalled = [span for span in spans if span.kind == "stalls"]
        if stalled:
            longest = max(stalled, key=lambda span: span.seconds)
            lock = f" for {longest.lock}" if longest.lock else ""
            for_good = self._virtual and longest.open
            how_long = "stands still" if for_good else f"stood still {longest.seconds:.3f} s"
            told.append(f"{how_long}{lock}")
        work = self._works.get(actor)
        if work is not None:
            told.append(f"{len(work.spans)} operations")
        return ", ".join(told) or f"{len(self._seen.waits.get(actor, []))} waits"


def _stood_from_to(stood: Stood) -> tuple[float, float]:
    return stood.since, stood.until


def _posture(stood: Stood) -> str:
    if stood.busy >= _BUSY:
        return "works"
    return "sleeps" if "sleep(" in stood.code else "stands"


def _holding(row: tuple[float, float, tuple[str, ...]] | None) -> Iterator[Span]:
    if row is not None and row[2]:
        since, until, locks = row
        text = f"holds {' and '.join(locks)} from {stamp(since)} to {stamp(until)}"
        yield Span(since=since, until=until, kind="holds", text=text)


def _event_mark(event: Noted) -> Mark:
    if event.kind == "raised":
        error = str(event.fields.get("error", "an exception"))
        return Mark(at=event.at, kind="raised", label="raised", text=f"raised {error}", bad=True)
    told = [f"{name} {value}" for name, value in list(event.fields.items())[:_FIELDS]]
    text = f"{event.kind.replace('_', ' ')}{': ' if told else ''}{', '.join(told)}"
    return Mark(at=event.at, kind="event", label=event.kind.replace("_", " "), text=text)
