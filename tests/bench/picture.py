"""Evidence of a trial is read and drawn again, page and timeline: a history of 100,000 events,
most of them holds of locks; then a trial of ten seconds with eight contenders that think for 1 ms,
as large as they get. Both are put together here, with a flush that is cut off and a stall.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pytest_gracekill.render import folder as folders
from pytest_gracekill.render.page import html
from pytest_gracekill.render.picture import picture_of
from pytest_gracekill.render.record import Called, Disk, Record
from pytest_gracekill.render.timeline.drawing import svg
from pytest_gracekill.witness.history import Event
from pytest_gracekill.witness.recording import Recording

from .figure import Figure, Promise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVENTS = 100_000
SECONDS = 10.0
CONTENDERS = 8
BLOCKS = 64
_NS = 1_000_000_000
_SITE = [
    {"file": "/usr/lib/python3/dist-packages/vmtool/driver.py", "line": 198, "function": "_taken"},
    {"file": "/usr/lib/python3/dist-packages/vmtool/driver.py", "line": 109, "function": "find"},
]


def measure(rounds: int, folder: Path) -> list[Figure]:
    """Each round reads and draws anew; writing is not counted."""
    few = max(rounds // 6, 3)
    large = _Case(folder / "events", seconds=2.4, events=EVENTS)
    long = _Case(folder / "long", seconds=SECONDS, events=int(SECONDS * 900 * CONTENDERS * 2))
    for _ in range(few):
        large.draw()
        long.draw()
    return [
        _time("100,000 events, drawn", large.times, Promise(limit=5.0)),
        _size("their page", large.pages, Promise(limit=500e3)),
        _size("their timeline alone", large.timelines),
        _time("10 s, eight contenders", long.times),
        _size("its page", long.pages, Promise(limit=500e3)),
    ]


def _time(name: str, samples: list[float], promise: Promise | None = None) -> Figure:
    return Figure(name=name, samples=tuple(samples), unit="s", promise=promise)


def _size(name: str, samples: list[float], promise: Promise | None = None) -> Figure:
    return Figure(name=name, samples=tuple(samples), unit="KB", scale=1e-3, promise=promise)


class _Case:
    def __init__(self, path: Path, *, seconds: float, events: int) -> None:
        self._path = path
        self.times: list[float] = []
        self.pages: list[float] = []
        self.timelines: list[float] = []
        rows = sorted(_events(seconds, events), key=lambda event: event.at_ns)
        folders.write(path, Recording(0, rows), _record(seconds), "the table")

    def draw(self) -> None:
        started = time.perf_counter()
        picture = picture_of(folders.load(self._path))
        page, timeline = html(picture), svg(picture)
        self.times.append(time.perf_counter() - started)
        self.pages.append(len(page.encode()))
        self.timelines.append(len(timeline.encode()))


def _record(seconds: float) -> Record:
    lost = tuple(range(BLOCKS // 2, BLOCKS))
    returned = Called(
        actor="MainThread",
        called_ns=0,
        returned_ns=int(seconds * _NS),
        cut_off=False,
        told="returned KillResult(dead, by SIGKILL)",
    )
    return Record(
        headline=f"gracekill: DATA LOST ({len(lost)} of {BLOCKS} blocks)",
        ok=False,
        flush_total=seconds * 1.5,
        disk=Disk(blocks=BLOCKS, acknowledged=BLOCKS, damaged={"lost": lost}),
        calls=(returned,),
    )


def _events(seconds: float, number: int) -> Iterator[Event]:
    def event(at: float, kind: str, actor: str, **fields: object) -> Event:
        return Event(at_ns=int(at * _NS), kind=kind, actor=actor, fields=fields)

    yield event(-0.1, "start", "fake", blocks=BLOCKS)
    yield event(-0.1, "ready", "fake")
    yield event(0.0, "call", "MainThread")
    yield event(0.001, "flush_begin", "fake", blocks=BLOCKS)
    for block in range(BLOCKS // 2):
        at = (block + 1) * seconds / BLOCKS * 2
        yield event(at, "block", "fake", index=block, generation=1)
    yield event(seconds, "gone", "fake", code=None, signal=9, by_trial=False)
    yield event(seconds, "return", "MainThread")
    each = number // (CONTENDERS * 2)
    step = seconds / each
    for contender in range(CONTENDERS):
        actor = f"gracekill:other-{contender + 1}"
        spans = []
        for operation in range(each):
            # everybody stands still in the middle third, behind one of them
            at = operation * step
            since = at if at < seconds / 3 or at > seconds * 2 / 3 else seconds * 2 / 3
            until = since + step / 4
            spans.append((int(at * _NS), int(until * _NS)))
            held = int(until * _NS)
            yield event(since, "hold", actor, lock="driver", released_ns=held, site=_SITE)
            lock = f"domain {operation % 3}"
            yield event(since, "hold", actor, lock=lock, released_ns=held, site=_SITE)
        yield event(0, "operations", actor, name=actor[10:], by_latency=False, spans=spans)
        waited = {"until_ns": int(seconds * 2 / 3 * _NS), "acquired": True, "timed": False}
        yield event(seconds / 3, "wait", actor, lock="driver", site=_SITE, **waited)
