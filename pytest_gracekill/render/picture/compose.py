"""Makes the picture of what was saved: which lanes there are, from when until when, in which order.

A picture has room for some forty lanes. When there are more threads or locks, those that a broken
verdict is about come first, and the others are counted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from pytest_gracekill.render.picture import chains, fake, locks, signals, story
from pytest_gracekill.render.picture.gathered import Gathered
from pytest_gracekill.render.picture.owners import Owners
from pytest_gracekill.render.picture.people import People
from pytest_gracekill.render.picture.records import (
    Finding,
    Lane,
    NumberedStep,
    Picture,
    Point,
)
from pytest_gracekill.render.picture.room import Room
from pytest_gracekill.render.picture.schedule import spread
from pytest_gracekill.render.picture.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_gracekill.render.folder import Saved
    from pytest_gracekill.render.picture.records import LaneKind
    from pytest_gracekill.render.record import Record
    from pytest_gracekill.report import Verdict

Item = TypeVar("Item")

#: Lanes of threads, and of locks, that a picture has room for.
_THREADS = 24
_LOCKS = 12
#: Of a flush that was cut off, the rest is drawn up to so many times what has happened.
_WOULD = 5
#: How much of the time before the call and after the end of everything is drawn.
_LEAD = 0.12
_AIR = 0.03
_TAIL = 0.06


def picture_of(saved: Saved, extent: tuple[float, float] | None = None) -> Picture:
    """The picture of one trial, or of one explored failure.

    ``extent``: from when until when is drawn, if it is to be beside another.
    """
    saved = spread(saved)
    seen, record = Gathered(saved.story), saved.record
    people = People(seen, record)
    findings = tuple(_finding(verdict, seen, people) for verdict in record.verdicts)
    named = {point.lane for finding in findings for point in finding.points}
    matter, other = locks.names(seen, people)
    matter += [lock for lock in other if f"lock {lock}" in named]
    shown_locks = _chosen(matter, _LOCKS, lambda lock: f"lock {lock}" in named)
    other_locks = [lock for lock in (*matter, *other) if lock not in shown_locks]
    actors = _actors(people, named)
    begin, end = _extent(seen, record, findings) if extent is None else extent
    room = Room(begin=begin, end=end, lanes=len(shown_locks) + len(actors) + 1)
    threads = Threads(seen, record, people, Owners(seen.holds), room)
    lanes: list[Lane] = []
    vm = fake.lane(seen, record, room)
    if vm is not None:
        lanes += [vm]
    if vm is not None or seen.of_kind("signal"):
        lanes += [signals.lane(seen, people, room)]
    lanes += [threads.lane(actor, kind) for actor, kind in actors if kind == "routine"]
    lanes += [locks.lane(lock, seen, people, room) for lock in shown_locks]
    if (rest := locks.rest(other_locks, seen, room)) is not None:
        lanes += [rest]
    lanes += [threads.lane(actor, kind) for actor, kind in actors if kind != "routine"]
    lanes = [replace(lane, broken=lane.key in named) for lane in lanes]
    links = chains.links(lanes)
    return Picture(
        title=record.title,
        headline=record.headline,
        ok=record.ok,
        begin=begin,
        end=end,
        returned=threads.returned,
        virtual=record.clock == "virtual",
        findings=findings,
        not_judged=dict(record.not_judged),
        lanes=tuple(lanes),
        links=links,
        steps=_steps(record, seen, people),
        facts=_facts(record),
        story=tuple(story.tell(fake.Course(seen), record, lanes, links)),
        events=seen.number,
        left_out=_left_out(len(people.everybody) - len(actors)),
    )


def _finding(verdict: Verdict, seen: Gathered, people: People) -> Finding:
    return Finding(
        name=verdict.name,
        status=verdict.status,
        word=verdict.word,
        also=verdict.also,
        evidence=verdict.evidence,
        detail=verdict.detail,
        advice=verdict.advice,
        points=tuple(
            Point(
                word=moment.word,
                lane=people.resolve(moment.lane),
                at=seen.seconds(moment.at_ns),
                until=None if moment.until_ns is None else seen.seconds(moment.until_ns),
                text=moment.text,
            )
            for moment in verdict.moments
        ),
    )


def _actors(people: People, named: set[str]) -> list[tuple[str, LaneKind]]:
    """The threads that get a lane, in the order of their lanes."""
    everybody: list[tuple[str, LaneKind]] = [(actor, "routine") for actor in people.callers]
    everybody += [(actor, "contender") for actor in people.contenders]
    everybody += [(actor, "thread") for actor in people.others]
    return _chosen(
        everybody, _THREADS, lambda row: row[1] == "routine" or people.key(row[0]) in named
    )


def _chosen(rows: Sequence[Item], most: int, first: Callable[[Item], bool]) -> list[Item]:
    """As many as there is room for: those that come first, then the others; in their order."""
    ranked = sorted(range(len(rows)), key=lambda number: (not first(rows[number]), number))
    kept = set(ranked[:most])
    return [row for number, row in enumerate(rows) if number in kept]


def _extent(seen: Gathered, record: Record, findings: Iterable[Finding]) -> tuple[float, float]:
    """From when until when: the calls, the VM's end and all moments, and a little around them."""
    course = fake.Course(seen)
    until = [seen.seconds(call.returned_ns) for call in record.calls]
    until += [event.at for event in seen.of_kind("return")]
    until += [moment for moment in (course.end, course.flush_end) if moment is not None]
    if record.flush_total is not None and course.flush_begin is not None and course.killed:
        # a flush of minutes would leave no room for what has happened
        until.append(min(course.flush_begin + record.flush_total, _WOULD * max(until)))
    points = [point for finding in findings for point in finding.points]
    until += [point.at if point.until is None else point.until for point in points]
    steps = [seen.seconds(step.at_ns) for step in record.steps]
    if not until or not (record.calls or seen.of_kind("call")):
        # no call: a history of something else, shown whole
        first, last = min((seen.first, *steps)), max((seen.last, *steps))
        air = max((last - first) * _AIR, 1e-8)
        return first - air, last + 3 * air
    since = [0.0, *(seen.seconds(call.called_ns) for call in record.calls)]
    since += [point.at for point in points] + steps
    until += steps
    begin, end = min(since), max(until)
    length = max(end - begin, 1e-6)
    # what came just before the call, and some air at the left of it
    before = min(max(begin - seen.first, length * _AIR), length * _LEAD)
    return begin - before, end + max(length * _TAIL, 0.005)


def _steps(record: Record, seen: Gathered, people: People) -> tuple[NumberedStep, ...]:
    return tuple(
        NumberedStep(
            number=step.number,
            task=people.name(step.task),
            lane=people.key(step.task),
            operation=step.operation,
            line=step.line,
            at=seen.seconds(step.at_ns),
        )
        for step in record.steps
    )


def _facts(record: Record) -> dict[str, str]:
    """What was tried, by name, as people read it."""
    facts: dict[str, str] = {}
    if record.routine:
        facts["routine"] = record.routine
    if record.policy:
        facts["policy"] = record.policy
    knobs = ", ".join(f"{name}={value}" for name, value in record.knobs.items())
    if knobs:
        facts["VM"] = knobs
    if record.flush_total is not None:
        facts["flush"] = f"{record.flush_total:.2f} s"
    if record.clock == "virtual":
        facts["clock"] = "virtual time"
    return {**facts, **record.facts}


def _left_out(threads: int) -> tuple[str, ...]:
    return (f"{threads} more threads",) if threads else ()
