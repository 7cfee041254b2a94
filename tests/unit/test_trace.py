"""The trace keeps the rules of the Trace Event Format, by which Perfetto and Chrome read it.

The rules are those of the format's own document: which fields an event of which phase has, slices
of a track within each other or apart, arrows by their ids and bound to slices.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gracekill.render import folder
from pytest_gracekill.render.picture import (
    Density,
    Lane,
    Link,
    NumberedStep,
    Picture,
    Span,
    picture_of,
)
from pytest_gracekill.render.trace import events_of, trace

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = Path(__file__).parents[1] / "evidence" / "libvirt-0.9.10"

Row = dict[str, Any]

#: What an event has, by its phase, beside name, ph, pid and tid.
FIELDS = {
    "M": {"args"},
    "X": {"ts", "dur", "cat", "args"},
    "i": {"ts", "s", "cat", "args"},
    "C": {"ts", "cat", "args"},
    "s": {"ts", "id", "cat"},
    "f": {"ts", "id", "cat", "bp"},
}


def wrong(document: Row) -> Iterator[str]:
    """What is against the rules."""
    events: list[Row] = document["traceEvents"]
    for event in events:
        fields = {"name", "ph", "pid", "tid", *FIELDS.get(event["ph"], {"a known phase"})}
        if event.keys() != fields:
            yield f"fields {sorted(event)}"
        if not all(isinstance(event.get(field), int) for field in ("pid", "tid")):
            yield f"pid or tid of {event}"
        if not isinstance(event["name"], str) or not event["name"]:
            yield f"name of {event}"
        for field in ("ts", "dur"):
            value = event.get(field, 0.0)
            if not isinstance(value, int | float) or value < 0:
                yield f"{field} of {event}"
    yield from wrong_order(events)
    yield from wrong_metadata(events)
    yield from wrong_nesting(events)
    yield from wrong_flows(events)
    for event in events:
        if event["ph"] == "C" and not all(
            isinstance(value, int | float) for value in event["args"].values()
        ):
            yield f"a counter of no number: {event}"
        if event["ph"] == "i" and event["s"] not in ("g", "p", "t"):
            yield f"scope of {event}"


def wrong_order(events: list[Row]) -> Iterator[str]:
    kinds = [event["ph"] == "M" for event in events]
    if kinds != sorted(kinds, reverse=True):
        yield "metadata behind other events"
    times = [event["ts"] for event in events if event["ph"] != "M"]
    if times != sorted(times):
        yield "not by time"


def wrong_metadata(events: list[Row]) -> Iterator[str]:
    named = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    if sum(event["name"] == "process_name" for event in events) != 1:
        yield "no name of the process"
    for event in events:
        if event["ph"] in "Xisf" and event["tid"] not in named:
            yield f"on a track without a name: {event}"
    if len(set(named.values())) != len(named):
        yield f"two tracks of one name: {named}"


def slices(events: list[Row]) -> dict[int, list[Row]]:
    """The slices of each track; times in whole nanoseconds."""
    tracks = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            since = round(event["ts"] * 1000)
            tracks[event["tid"]].append(
                {**event, "since": since, "until": since + round(event["dur"] * 1000)}
            )
    return tracks


def wrong_nesting(events: list[Row]) -> Iterator[str]:
    for track, rows in slices(events).items():
        open_: list[int] = []
        for row in rows:
            while open_ and open_[-1] <= row["since"]:
                open_.pop()
            if open_ and row["until"] > open_[-1]:
                yield f"across another on track {track}: {row['name']}"
            open_.append(row["until"])


def innermost(tracks: dict[int, list[Row]], event: Row) -> Row | None:
    """The slice that an end of an arrow is bound to."""
    at = event["ts"] * 1000
    around = [row for row in tracks[event["tid"]] if row["since"] < at < row["until"]]
    return around[-1] if around else None


def wrong_flows(events: list[Row]) -> Iterator[str]:
    ends = defaultdict(list)
    tracks = slices(events)
    for event in events:
        if event["ph"] in "sf":
            ends[event["id"], event["cat"], event["name"]].append(event)
            if innermost(tracks, event) is None:
                yield f"bound to no slice: {event}"
            if event["ph"] == "f" and event["bp"] != "e":
                yield f"bound to what comes next: {event}"
    for key, pair in ends.items():
        if [event["ph"] for event in pair] != ["s", "f"]:
            yield f"not one begin and one end: {key}"
    if len({number for number, _, _ in ends}) != len(ends):
        yield "two arrows of one id"


@pytest.fixture(scope="module")
def seed() -> Picture:
    return picture_of(folder.load(SEED))


def read(picture: Picture) -> Row:
    document: Row = json.loads(trace(picture))
    return document


def of(picture: Picture, ph: str, **fields: object) -> list[Row]:
    events = read(picture)["traceEvents"]
    return [e for e in events if e["ph"] == ph and all(e[k] == v for k, v in fields.items())]


def tracks_of(picture: Picture) -> dict[str, int]:
    return {e["args"]["name"]: e["tid"] for e in of(picture, "M", name="thread_name")}


def test_saved_evidence_keeps_the_rules(seed: Picture) -> None:
    assert list(wrong(read(seed))) == []


def test_each_lane_is_a_track_in_their_order(seed: Picture) -> None:
    names = [name for name in tracks_of(seed) if ": " not in name]
    assert names == [lane.name for lane in seed.lanes]
    order = {e["tid"]: e["args"]["sort_index"] for e in of(seed, "M", name="thread_sort_index")}
    assert list(order.values()) == sorted(order.values())


def test_every_span_is_a_slice_every_mark_and_moment_an_instant(seed: Picture) -> None:
    spans = [span for lane in seed.lanes for span in lane.spans]
    assert len(of(seed, "X")) == len(spans)
    told = {event["args"]["what"] for event in of(seed, "X")}
    assert told == {span.text for span in spans}
    marks = [mark.text for lane in seed.lanes for mark in lane.marks]
    points = [point.text for finding in seed.findings for point in finding.points]
    assert sorted(e["args"]["what"] for e in of(seed, "i")) == sorted([*marks, *points])
    assert {e["name"] for e in of(seed, "i", cat="verdict")} == {
        "DATA LOST", "KILLED EARLY", "HELD OVER WAIT", "STALLED",
    }  # fmt: skip


def test_the_flush_and_the_operations_are_counted(seed: Picture) -> None:
    assert of(seed, "C", name="blocks on disk")[-1]["args"] == {"blocks": 42}
    rates = of(seed, "C", name="same-1: operations a second")
    assert max(row["args"]["operations"] for row in rates) > 0
    assert rates[-1]["args"] == {"operations": 0.0}


def test_an_arrow_goes_from_each_wait_to_what_its_owner_does(seed: Picture) -> None:
    events = read(seed)["traceEvents"]
    rows, names = slices(events), {number: name for name, number in tracks_of(seed).items()}
    arrows = set()
    for begin in of(seed, "s"):
        (end,) = of(seed, "f", id=begin["id"])
        source, target = innermost(rows, begin), innermost(rows, end)
        assert source is not None
        assert target is not None
        assert source["args"]["lock"] == "driver"
        arrows.add(
            (names[begin["tid"]], source["name"], names[end["tid"]], source["args"]["held by"])
        )
    for who in ("other-1", "define-1", "list-2"):
        assert (who, "stands still for driver", "the routine: holds", "the routine") in arrows
    assert len(of(seed, "s")) == len(seed.links)


def test_times_are_told_from_the_call(seed: Picture) -> None:
    document = read(seed)
    (call,) = of(seed, "X", name="call")
    assert call["ts"] == document["otherData"]["call_us"] == round(-seed.begin * 1e9) / 1000
    assert call["args"]["at"] == "t+0.000"


def lane(key: str, *spans: Span, density: Density | None = None) -> Lane:
    return Lane(key=key, kind="contender", name=key, summary="", spans=spans, density=density)


def span(since: float, until: float, kind: str = "waits", **more: Any) -> Span:
    return Span(since=since, until=until, kind=kind, text=f"{kind} {since}", **more)


def blank(*lanes: Lane, links: tuple[Link, ...] = ()) -> Picture:
    return Picture(
        title="", headline="gracekill: ok", ok=True, begin=-1.0, end=9.0, returned=None,
        virtual=False, findings=(), not_judged={}, lanes=lanes, links=links,
    )  # fmt: skip


def test_what_lies_across_another_has_a_track_of_its_own() -> None:
    drawn = blank(
        lane("a", span(0, 4, "call"), span(1, 2), span(2, 3), span(3, 5, "holds"), span(3.5, 6))
    )
    assert list(wrong(read(drawn))) == []
    assert list(tracks_of(drawn)) == ["a", "a: holds", "a: waits"]
    assert [len(rows) for rows in slices(read(drawn)["traceEvents"]).values()] == [3, 1, 1]


def test_an_owner_that_is_seen_to_do_nothing_is_shown_by_the_lock() -> None:
    wait = span(1, 3, lock="l", owner="b")
    held = span(0, 4, "held", lock="l", owner="b")
    link = Link(source="a", target="b", lock="l", since=1, until=3)
    drawn = blank(lane("a", wait), lane("lock l", held), lane("b"), links=(link,))
    assert list(wrong(read(drawn))) == []
    (end,) = of(drawn, "f")
    assert end["tid"] == tracks_of(drawn)["lock l"]
    # and nothing at all is no arrow, rather than one to nowhere
    assert of(blank(lane("a", wait), lane("b"), links=(link,)), "s") == []


def test_two_lanes_of_one_name_are_two_tracks_with_counters_of_their_own() -> None:
    density = Density(since=-1, until=9, what="operations", counts=(1, 0), shares=(0.1, 0))
    one, other = lane("thread a", density=density), lane("thread b", density=density)
    drawn = blank(replace(one, name="same"), replace(other, name="same"))
    assert list(wrong(read(drawn))) == []
    assert list(tracks_of(drawn)) == ["same", "same (2)"]
    # Perfetto takes counters of one name for one
    names = {event["name"] for event in of(drawn, "C")}
    assert names == {"same: operations a second", "same (2): operations a second"}


def test_the_schedule_is_a_track_of_numbered_steps() -> None:
    steps = tuple(
        NumberedStep(
            number=n, task="a", lane="a", operation="acquires x", line="v.py:1", at=n * 1e-8
        )
        for n in range(1, 4)
    )
    drawn = replace(blank(lane("a")), steps=steps, virtual=True)
    assert list(wrong(read(drawn))) == []
    track = tracks_of(drawn)["the schedule"]
    assert [row["name"] for row in of(drawn, "X", tid=track)] == [
        f"{n}. a acquires x" for n in range(1, 4)
    ]
    assert read(drawn)["otherData"]["clock"] == "virtual"


def test_the_rules_are_looked_at() -> None:
    """Each rule finds what is against it."""
    good = events_of(blank(lane("a", span(0, 4, "call"), span(1, 2))))
    events: list[Row] = json.loads(json.dumps(good))["traceEvents"]

    def against(change: dict[str, Any], number: int = -1) -> list[str]:
        changed = [dict(event) for event in events]
        changed[number] |= change
        return list(wrong({"traceEvents": changed}))

    assert against({}) == []
    for change in ({"dur": 9e6}, {"tid": 7}, {"ts": -1.0}, {"ts": 0.0}, {"ph": "B"}, {"name": ""}):
        assert against(change), change
