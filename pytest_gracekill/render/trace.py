"""The picture as a trace: JSON in the Trace Event Format, for Perfetto and chrome://tracing.

Each lane is a track, each span a slice, each moment an instant; flush and operations are counters;
an arrow goes from a wait to what its owner does meanwhile. Slices of one track have to lie within
each other or apart: of those that overlap otherwise, the later one is on a track of its own, below.

The clock of a trace begins at 0, with the picture; what is told of times is told from the call.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from pytest_gracekill.render.picture import stamp
from pytest_gracekill.render.timeline.drawing import broken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gracekill.render.picture import Density, Lane, Link, Picture, Span

#: The one process of the trace; tracks are its threads, from 1 on.
PID = 1

Row = dict[str, object]


def trace(picture: Picture) -> str:
    """The picture as JSON."""
    return json.dumps(events_of(picture), indent=0, ensure_ascii=False) + "\n"


def events_of(picture: Picture) -> Row:
    """The same as what JSON is made of; the events by time, what names the tracks before them."""
    tracks = _Tracks(picture)
    about = [_about(None, "process_name", name=f"{picture.title} {picture.headline}".strip())]
    for number, name in enumerate(tracks.names, start=1):
        about += [_about(number, "thread_name", name=name)]
        about += [_about(number, "thread_sort_index", sort_index=number)]
    events = [*_slices(picture, tracks), *_instants(picture, tracks), *_counters(picture, tracks)]
    events += _steps(picture, tracks)
    events += _flows(picture, tracks)
    events.sort(key=_place)
    return {
        "displayTimeUnit": "ns" if picture.virtual else "ms",
        "otherData": {
            "headline": picture.headline,
            "clock": "virtual" if picture.virtual else "monotonic",
            "call_us": _us(_ns(0.0, picture)),
            **picture.facts,
        },
        "traceEvents": [*about, *events],
    }


def _place(event: Row) -> tuple[float, int, float]:
    """By time; of slices that begin together the outer one first, and arrows after all of them."""
    at, length = event["ts"], event.get("dur", 0.0)
    assert isinstance(at, float)
    assert isinstance(length, float)
    return at, "sf".find(str(event["ph"])), -length


class _Slice(NamedTuple):
    """A span on its track, in nanoseconds of the trace."""

    since: int
    until: int
    track: int
    lane: Lane
    span: Span


class _Tracks:
    """The tracks: of each lane one, and one for each span of it that lies across another."""

    def __init__(self, picture: Picture) -> None:
        self.names: list[str] = []
        self.of: dict[str, int] = {}
        self.slices: list[_Slice] = []
        for lane in picture.lanes:
            self.of[lane.key] = self._add(lane.name)
            self._lay(lane, picture)
        self.schedule = self._add("the schedule") if picture.steps else 0

    def _add(self, name: str) -> int:
        """A new track; two of one name are told apart, also their counters."""
        same = sum(known == name or known.startswith(f"{name} (") for known in self.names)
        self.names.append(f"{name} ({same + 1})" if same else name)
        return len(self.names)

    def name(self, lane: Lane) -> str:
        """What the track of a lane is called."""
        return self.names[self.of[lane.key] - 1]

    def _lay(self, lane: Lane, picture: Picture) -> None:
        """Each span on the first track where it lies within, or apart from, what is there."""
        spans = [
            (
                _ns(span.since, picture),
                max(_ns(span.until, picture), _ns(span.since, picture)),
                span,
            )
            for span in lane.spans
        ]
        spans.sort(key=lambda row: (row[0], -row[1]))
        tracks = [self.of[lane.key]]
        ends: dict[int, list[int]] = {tracks[0]: []}
        for since, until, span in spans:
            # what a caller holds is not within what it does
            free = tracks[1:] if span.kind == "holds" else tracks
            track = next((t for t in free if _fits(ends[t], since, until)), None)
            if track is None:
                track = self._add(f"{lane.name}: {span.kind}")
                tracks.append(track)
                ends[track] = []
            ends[track].append(until)
            self.slices.append(_Slice(since, until, track, lane, span))

    def around(self, lane: str, since: int, until: int) -> _Slice | None:
        """What goes on in a lane for most of a time."""
        found = [s for s in self.slices if s.lane.key == lane]
        return max(found, key=lambda s: _overlap(s, since, until), default=None)


def _fits(open_: list[int], since: int, until: int) -> bool:
    """Whether a slice lies within all that has not ended when it begins; forgets the others."""
    open_[:] = [end for end in open_ if end > since]
    return not open_ or until <= min(open_)


def _overlap(slice_: _Slice, since: int, until: int) -> int:
    return min(slice_.until, until) - max(slice_.since, since)


def _ns(seconds: float, picture: Picture) -> int:
    """A moment in nanoseconds of the trace; what was before the picture is at its begin."""
    return max(round((seconds - picture.begin) * 1e9), 0)


def _us(nanoseconds: int) -> float:
    return nanoseconds / 1000


def _about(track: int | None, what: str, **args: object) -> Row:
    return {"ph": "M", "name": what, "pid": PID, "tid": track or 0, "args": args}


def _event(ph: str, name: str, at_ns: int, track: int, **more: object) -> Row:
    return {"ph": ph, "name": name, "ts": _us(at_ns), "pid": PID, "tid": track, **more}


def _slices(picture: Picture, tracks: _Tracks) -> Iterator[Row]:
    names = {lane.key: lane.name for lane in picture.lanes}
    for since, until, track, lane, span in tracks.slices:
        args: dict[str, object] = {"what": span.text, "at": stamp(span.since)}
        if span.lock is not None:
            args["lock"] = span.lock
        if span.owner is not None:
            args["held by"] = names.get(span.owner, span.owner)
        if span.open:
            args["open"] = "no end was seen"
        yield _event(
            "X",
            _name(span, names),
            since,
            track,
            dur=_us(until - since),
            cat=f"{lane.kind},{span.kind}",
            args=args,
        )


def _name(span: Span, names: dict[str, str]) -> str:
    if span.kind in ("waits", "stalls") and span.lock is not None:
        verb = "stands still" if span.kind == "stalls" else "waits"
        return f"{verb} for {span.lock}"
    if span.kind == "held" and span.owner is not None:
        return f"held by {names.get(span.owner, span.owner)}"
    if span.kind == "holds":
        return span.text.partition(" from ")[0]
    return span.kind


def _instants(picture: Picture, tracks: _Tracks) -> Iterator[Row]:
    for lane in picture.lanes:
        for mark in lane.marks:
            args = {"what": mark.text, "at": stamp(mark.at)}
            yield _event(
                "i",
                mark.label,
                _ns(mark.at, picture),
                tracks.of[lane.key],
                s="t",
                cat=f"{lane.kind},{mark.kind}",
                args=args,
            )
    for finding in broken(picture):
        for point in finding.points:
            track = tracks.of.get(point.lane)
            args = {"what": point.text, "at": stamp(point.at), "verdict": finding.name}
            yield _event(
                "i",
                point.word,
                _ns(point.at, picture),
                track or 1,
                # about one lane, or about all of it
                s="p" if track is None else "t",
                cat="verdict",
                args=args,
            )


def _counters(picture: Picture, tracks: _Tracks) -> Iterator[Row]:
    for lane in picture.lanes:
        if lane.progress is not None:
            for at, count in lane.progress.points:
                yield _counter("blocks on disk", _ns(at, picture), {"blocks": count})
        if lane.density is not None:
            yield from _rates(tracks.name(lane), lane.density, picture)


def _rates(lane: str, density: Density, picture: Picture) -> Iterator[Row]:
    """How many a second there were, where that changes."""
    name, before = f"{lane}: {density.what} a second", None
    for bin_, count in enumerate((*density.counts, 0)):
        if count != before:
            at = _ns(density.since + bin_ * density.width, picture)
            rate = round(count / density.width, 3) if density.width else 0.0
            yield _counter(name, at, {density.what: rate})
        before = count


def _counter(name: str, at_ns: int, args: dict[str, object]) -> Row:
    return _event("C", name, at_ns, 0, cat="counter", args=args)


def _steps(picture: Picture, tracks: _Tracks) -> Iterator[Row]:
    """The schedule: step after step on one track, each until the next one."""
    moments = [_ns(step.at, picture) for step in picture.steps]
    untils = [*moments[1:], *moments[-1:]]
    for step, since, until in zip(picture.steps, moments, untils, strict=True):
        args = {"line": step.line, "at": stamp(step.at)}
        yield _event(
            "X",
            f"{step.number}. {step.task} {step.operation}",
            since,
            tracks.schedule,
            dur=_us(max(until - since, 0)),
            cat="step",
            args=args,
        )


def _flows(picture: Picture, tracks: _Tracks) -> Iterator[Row]:
    for number, link in enumerate(picture.links, start=1):
        yield from _flow(number, link, picture, tracks)


def _flow(number: int, link: Link, picture: Picture, tracks: _Tracks) -> Iterator[Row]:
    """An arrow in the middle of the time that both last, which is where both ends are bound."""
    since, until = _ns(link.since, picture), _ns(link.until, picture)
    wait = next(
        (
            s
            for s in tracks.slices
            if s.lane.key == link.source and (s.since, s.span.lock) == (since, link.lock)
        ),
        None,
    )
    # what the owner is seen to do; when nothing, the lock that it holds
    held = [s for s in tracks.slices if s.lane.key == f"lock {link.lock}"]
    held = [s for s in held if s.span.owner == link.target]
    owner = tracks.around(link.target, since, until)
    if owner is None or _overlap(owner, since, until) <= 1:
        owner = max(held, key=lambda s: _overlap(s, since, until), default=None)
    if wait is None or owner is None or _overlap(owner, since, until) <= 1:
        return
    middle = (max(since, owner.since) + min(until, owner.until)) // 2
    name = f"{link.lock} is held"
    common: Row = {"id": number, "cat": "because" if link.because else "waits for"}
    yield _event("s", name, middle, wait.track, **common)
    # to what lasts at that moment, not to what begins next
    yield _event("f", name, middle, owner.track, bp="e", **common)
