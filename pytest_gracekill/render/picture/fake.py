"""The lane of the VM: acknowledged, flushing with its progress, lingering, gone, and what was lost.

The VM's own journal says all of it but its end by a signal, which others have seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.child.disk import ranges
from pytest_gracekill.data.requests import signal_name
from pytest_gracekill.render.picture.gathered import number_of
from pytest_gracekill.render.picture.records import Lane, Mark, Progress, Span, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gracekill.render.picture.gathered import Gathered, Noted
    from pytest_gracekill.render.picture.room import Room
    from pytest_gracekill.render.record import Disk, Record

#: Steps of the staircase, and ranges of damaged blocks, that a picture has room for.
_STEPS = 200
_RANGES = 32

_REQUESTS = ("signal", "qmp")
_ENDS = ("exit", "crash", "died", "reaped")
#: The same without those of the VM's own word, when somebody else has seen its end.
_MARKED = {"stop": "stopped itself (SIGSTOP)", "crash": "crashed", "held": "held at its exit"}


class Course:
    """The moments of a VM's life, None for what did not come."""

    def __init__(self, seen: Gathered) -> None:
        self.blocks = next(
            (n for e in seen.by_fake("start") if (n := number_of(e, "blocks")) is not None), None
        )
        readied = seen.by_fake("ready") or seen.by_fake("handlers") or seen.by_fake("start")
        self.ready = _first(readied)
        self.request = _first(seen.by_fake(*_REQUESTS))
        # QMP `stop` flushes, too, and the VM runs on
        self.flush_begin = _first(_final(seen.by_fake("flush_begin")))
        self.flush_end = _first(_final(seen.by_fake("flush_end")))
        gone = seen.by_fake("gone")
        exits = seen.by_fake("exit")
        ends = seen.by_fake(*_ENDS)
        self.exit = _first(exits)
        # a process that has said that it exits is gone a moment later
        self.end = _first(exits or gone or ends)
        self.signal = next(
            (
                number
                for event in (*gone, *ends)
                if (number := number_of(event, "signal")) is not None
            ),
            None,
        )
        #: Whether the trial has ended it: what it had not flushed then says nothing.
        self.by_trial = any(event.fields.get("by_trial") is True for event in gone)

    @property
    def killed(self) -> bool:
        """Whether a signal has ended it."""
        return self.signal is not None and self.exit is None


def lane(seen: Gathered, record: Record, room: Room) -> Lane | None:
    """The lane of the VM; None where the history knows of none."""
    if not seen.of_fake:
        return None
    course = Course(seen)
    progress = _progress(seen, course, record)
    spans = tuple(
        span
        for span in _spans(course, record, room, progress)
        if room.inside(span.since, span.until)
    )
    return Lane(
        key="fake",
        kind="fake",
        name="VM",
        summary=_summary(course, progress),
        spans=spans,
        marks=tuple(mark for mark in _marks(seen, course) if room.inside(mark.at, mark.at)),
        progress=progress,
    )


def is_judged(course: Course, record: Record) -> bool:
    """Whether it matters what became of the blocks: not where the trial itself ended the VM."""
    return not course.by_trial and "data" not in record.not_judged


def _first(events: Sequence[Noted]) -> float | None:
    return events[0].at if events else None


def _final(events: Sequence[Noted]) -> list[Noted]:
    return [event for event in events if event.fields.get("reason") != "stop"]


def _progress(seen: Gathered, course: Course, record: Record) -> Progress | None:
    blocks = record.disk.blocks if record.disk is not None else course.blocks
    if not blocks:
        return None
    durable: set[int] = set()
    before = 0
    points: list[tuple[float, int]] = []
    begin = course.request if course.flush_begin is None else course.flush_begin
    for event in seen.by_fake("ack", "block"):
        if event.kind == "ack":
            # what is on the disk already is written anew
            first, last = number_of(event, "first"), number_of(event, "last")
            durable = {block for block in durable if not (first or 0) <= block <= (last or 0)}
        elif (number := number_of(event, "index")) is not None:
            durable.add(number)
            if begin is None or event.at >= begin:
                points.append((event.at, len(durable)))
                continue
        if begin is None or event.at < begin:
            before = len(durable)
    if begin is not None:
        points.insert(0, (begin, before))
    judged = record.disk is not None and is_judged(course, record)
    return Progress(
        blocks=blocks,
        points=_thinned(points),
        damaged=_runs(record.disk) if judged and record.disk is not None else {},
    )


def _thinned(points: list[tuple[float, int]]) -> tuple[tuple[float, int], ...]:
    """As many steps as can be told apart, the last one among them."""
    if len(points) <= _STEPS:
        return tuple(points)
    every = len(points) / _STEPS
    return (*(points[int(step * every)] for step in range(_STEPS)), points[-1])


def _runs(disk: Disk) -> dict[str, tuple[tuple[int, int], ...]]:
    """Each kind of damage as ranges of blocks; when there are too many, the last takes the rest."""
    found = {}
    for kind, numbers in disk.damaged.items():
        runs: list[tuple[int, int]] = []
        for number in sorted(set(numbers)):
            if runs and (number == runs[-1][1] + 1 or len(runs) == _RANGES):
                runs[-1] = (runs[-1][0], number)
            else:
                runs.append((number, number))
        if runs:
            found[kind] = tuple(runs)
    return found


def _spans(course: Course, record: Record, room: Room, progress: Progress | None) -> Iterator[Span]:
    end = room.end if course.end is None else course.end
    if course.ready is not None:
        # until it flushes, not until it is asked to: it may ignore that, and then it still runs
        until = end if course.flush_begin is None else min(course.flush_begin, end)
        count = "" if progress is None else f" {progress.blocks} blocks are"
        yield Span(
            since=course.ready,
            until=until,
            kind="ready",
            text=f"runs;{count} acknowledged, in its own memory only",
        )
    if course.flush_begin is not None:
        until = end if course.flush_end is None else course.flush_end
        done = "" if progress is None else f": {progress.durable} of {progress.blocks} blocks"
        yield Span(
            since=course.flush_begin,
            until=until,
            kind="flushing",
            text=f"writes to its disk{done} in {until - course.flush_begin:.3f} s",
            open=course.flush_end is None and course.end is None,
        )
    if course.flush_end is not None and end > course.flush_end:
        yield Span(
            since=course.flush_end,
            until=end,
            kind="lingering",
            text="everything is written; it has not exited yet",
        )
    yield from _lost(course, record, room, end)
    if course.end is not None:
        yield Span(since=end, until=room.end, kind="gone", text=_end(course))


def _lost(course: Course, record: Record, room: Room, end: float) -> Iterator[Span]:
    """What of the flush did not happen, to where it would have ended."""
    disk = record.disk
    if disk is None or not any(disk.damaged.values()) or not is_judged(course, record):
        return
    told = [
        f"{kind}: {ranges(numbers)} ({len(numbers)} of {disk.blocks} blocks)"
        for kind, numbers in disk.damaged.items()
        if numbers
    ]
    text, until = "; ".join(told), room.end
    if record.flush_total is not None and course.flush_begin is not None:
        would = course.flush_begin + record.flush_total
        if would > end:
            until, text = would, f"{text}; the flush would have ended at {stamp(would)}"
    yield Span(since=end, until=max(until, end), kind="lost", text=text)


def _marks(seen: Gathered, course: Course) -> Iterator[Mark]:
    for event in seen.by_fake("signal"):
        name = signal_name(number_of(event, "signal") or 0)
        yield Mark(at=event.at, kind="taken", label=name, text=f"the VM took note of {name}")
    for event in seen.by_fake("qmp"):
        what = f"QMP {event.fields.get('command', '')}"
        yield Mark(at=event.at, kind="request", label=what, text=f"the VM was asked by {what}")
    for event in seen.by_fake(*_MARKED):
        what = _MARKED[event.kind]
        yield Mark(at=event.at, kind="event", label=event.kind, text=f"the VM {what}", bad=True)
    if course.end is not None:
        kind = "killed" if course.killed else "exit"
        label = _label(course)
        yield Mark(
            at=course.end, kind=kind, label=label, text=f"the VM: {_end(course)}", bad=course.killed
        )


def _label(course: Course) -> str:
    if course.by_trial:
        return "ended by the trial"
    return f"ended by {signal_name(course.signal or 0)}" if course.killed else "exit"


def _end(course: Course) -> str:
    if course.by_trial:
        return "the trial ended it, it would still run"
    if course.killed:
        return f"ended by {signal_name(course.signal or 0)}"
    return "exited by itself"


def _summary(course: Course, progress: Progress | None) -> str:
    told: list[str] = []
    if progress is not None:
        told += [f"{kind}: {ranges(_numbers(runs))}" for kind, runs in progress.damaged.items()]
        told.append(str(progress))
    told.append("it still runs" if course.end is None else f"{_label(course)} {stamp(course.end)}")
    return ", ".join(told)


def _numbers(runs: Sequence[tuple[int, int]]) -> Iterator[int]:
    for first, last in runs:
        yield from range(first, last + 1)
