"""What a picture of a trial is made of: lanes with spans, marks and densities; findings; links.

Times are seconds from the call of the routine (``t+0.000``), on one clock, real or virtual. Nothing
here knows how it is drawn: a page, a terminal and a trace are made of the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

LaneKind = Literal["fake", "signals", "routine", "lock", "contender", "thread"]

#: What a span can be, by the kind of its lane, and what it says.
SPANS: Mapping[str, str] = {
    # the fake
    "ready": "it runs, and the guest's writes are acknowledged",
    "flushing": "it writes what was acknowledged to its disk",
    "lingering": "everything is written; it has not exited yet",
    "stopped": "it was stopped (SIGSTOP) and does nothing",
    "lost": "what of the flush did not happen",
    "gone": "the process has ended",
    # the routine, and further callers
    "call": "from the call to the return",
    "sleeps": "it sleeps for a fixed time",
    "stands": "it waits in one place without using the processor",
    "works": "it uses the processor",
    "holds": "it holds locks",
    # any thread
    "waits": "it waits for a lock",
    "stalls": "it stands still: a wait or an operation that is far too long",
    "operation": "one operation that took long",
    # a lock
    "held": "one thread holds the lock",
}

#: What a mark can be.
MARKS: Mapping[str, str] = {
    "signal": "a signal was sent",
    "request": "a request to stop came to the VM by QMP",
    "taken": "the VM took note of a signal",
    "call": "the routine was called",
    "return": "the routine returned",
    "cut off": "the call was cut off, its budget was over",
    "exit": "the VM exited by itself",
    "killed": "the VM was ended by a signal",
    "raised": "an exception",
    "event": "something else on record",
    "moment": "a broken verdict is about this",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Something that lasts.

    ``lock`` and ``owner`` (the key of a lane): what a wait is for, who holds it meanwhile; of a
    hold, ``owner`` is who holds. ``open``: no end was seen, it lasts to the end of the picture.
    """

    since: float
    until: float
    kind: str
    text: str
    lock: str | None = None
    owner: str | None = None
    open: bool = False

    @property
    def seconds(self) -> float:
        return self.until - self.since

    def __str__(self) -> str:
        return f"{stamp(self.since)} to {stamp(self.until)}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happens at one moment. ``label`` is a word or two, ``text`` a line."""

    at: float
    kind: str
    label: str
    text: str
    bad: bool = False

    def __str__(self) -> str:
        return f"{stamp(self.at)}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Density:
    """What is too much to be drawn one by one: how often, and for which share of the time.

    Each of the equally long bins from ``since`` to ``until`` has the number of things that began
    in it (``counts``) and the share of its time that they took (``shares``, 0 to 1). ``what`` names
    them, in the plural.
    """

    since: float
    until: float
    what: str
    counts: tuple[int, ...]
    shares: tuple[float, ...]

    @property
    def total(self) -> int:
        return sum(self.counts)

    @property
    def width(self) -> float:
        """Seconds of one bin."""
        return (self.until - self.since) / len(self.counts) if self.counts else 0.0

    def __str__(self) -> str:
        return f"{self.total} {self.what.removesuffix('s') if self.total == 1 else self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the flush was: blocks that are on the disk, over time, as a staircase.

    ``lost`` and the other kinds of damage are ranges of blocks, first and last.
    """

    blocks: int
    points: tuple[tuple[float, int], ...]
    damaged: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    @property
    def durable(self) -> int:
        """Blocks on the disk at the end."""
        return self.points[-1][1] if self.points else 0

    def at(self, moment: float) -> int:
        """Blocks on the disk at a moment."""
        return next((count for at, count in reversed(self.points) if at <= moment), 0)

    def __str__(self) -> str:
        return f"{self.durable} of {self.blocks} blocks on disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One row of the picture. ``summary`` says in a line what there is to see in it.

    ``key`` is what spans, links and moments refer to; ``broken``: a broken verdict is about it.
    """

    key: str
    kind: LaneKind
    name: str
    summary: str
    spans: tuple[Span, ...] = ()
    marks: tuple[Mark, ...] = ()
    density: Density | None = None
    progress: Progress | None = None
    broken: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.summary}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A wait, and the lane of whoever holds the lock that is waited for.

    ``because``: it is part of the longest chain of a stall, which tells most.
    """

    source: str
    target: str
    lock: str
    since: float
    until: float
    because: bool = False

    def __str__(self) -> str:
        return f"{self.source} waits for {self.lock}, held by {self.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """When and where a broken word shows; ``until`` is None where it is an instant."""

    word: str
    lane: str
    at: float
    until: float | None
    text: str

    def __str__(self) -> str:
        return f"{stamp(self.at)} {self.word}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One verdict, and the moments that it is about."""

    name: str
    status: Literal["ok", "broken", "unknown"]
    word: str
    also: tuple[str, ...]
    evidence: str
    detail: tuple[str, ...]
    advice: str
    points: tuple[Point, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.word} ({self.evidence})"


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedStep:
    """One step of an explored schedule."""

    number: int
    task: str
    lane: str
    operation: str
    line: str
    at: float

    def __str__(self) -> str:
        return f"{self.number}. {stamp(self.at)} {self.task}: {self.operation} ({self.line})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One trial, or one explored failure, as it can be looked at.

    ``begin`` and ``end`` are the first and the last moment that is drawn, ``returned`` when the
    (last) call ended. ``virtual``: the clock is that of an exploration. ``story`` tells in a few
    sentences what is to be seen. ``left_out``: what the picture has no room for, in words.
    """

    title: str
    headline: str
    ok: bool
    begin: float
    end: float
    returned: float | None
    virtual: bool
    findings: tuple[Finding, ...]
    not_judged: Mapping[str, str]
    lanes: tuple[Lane, ...]
    links: tuple[Link, ...] = ()
    steps: tuple[NumberedStep, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    story: tuple[str, ...] = ()
    events: int = 0
    left_out: tuple[str, ...] = ()

    def lane(self, key: str) -> Lane | None:
        """The lane of that key, if it is drawn."""
        return next((lane for lane in self.lanes if lane.key == key), None)

    def __str__(self) -> str:
        return (
            f"{self.headline} ({len(self.lanes)} lanes, {stamp(self.begin)} to {stamp(self.end)})"
        )


def stamp(seconds: float) -> str:
    """A moment as people read it: seconds since the call."""
    return f"t{seconds:+.3f}"
