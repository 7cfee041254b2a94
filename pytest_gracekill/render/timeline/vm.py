"""Draws the VM: what is acknowledged, how far the flush has come, what was lost.

Blocks stand upright, the first at the bottom: what is on the disk grows from there, and what was
lost keeps its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.child.disk import ranges
from pytest_gracekill.render.picture import stamp
from pytest_gracekill.render.timeline.canvas import Box, Label
from pytest_gracekill.render.timeline.marking import element, number, share, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gracekill.render.picture import Lane, Mark, Progress, Span
    from pytest_gracekill.render.timeline.canvas import Canvas

#: What is damaged, in a word.
_DAMAGES = {"lost": "LOST", "torn": "TORN", "stale": "OLD", "phantom": "NEVER WRITTEN SO"}
#: Heights of one line of letters, and of two.
_LINE = 14
_TWO = 29


def draw(canvas: Canvas, lane: Lane, box: Box) -> Iterator[str]:
    """Everything of the VM's lane, from the back to the front."""
    progress = lane.progress
    spans = {span.kind: span for span in lane.spans}
    ready, flushing, gone = spans.get("ready"), spans.get("flushing"), spans.get("gone")
    if gone is not None:
        yield _item(canvas, gone, box, "gone")
    if ready is not None:
        yield _item(canvas, ready, box, "memory", "acknowledged, in memory" if progress else "runs")
    if flushing is not None:
        # what is not on the disk yet; the staircase covers what is
        yield canvas.stretched(_area(canvas, flushing, box), "memory still")
    if progress is not None:
        until = canvas.scale.knots[-1][0] if gone is None else gone.until
        yield canvas.stretched(_staircase(canvas, progress, until, box), "durable")
    if flushing is not None:
        done = "" if progress is None else _done(progress)
        yield _item(canvas, flushing, box, "clear", f"flushing to disk{done}")
    if (lingering := spans.get("lingering")) is not None:
        yield _item(canvas, lingering, box, "lingering", "lingers")
    if progress is not None and gone is not None:
        yield from _at_the_end(canvas, progress, gone, spans.get("lost"), box)
    for mark in lane.marks:
        if mark.kind in ("killed", "exit"):
            yield _line(canvas, mark, box)


def _done(progress: Progress) -> str:
    rest = "; the rest only in its memory" if progress.durable < progress.blocks else ""
    return f": {progress.durable} of {progress.blocks} blocks written{rest}"


def _item(canvas: Canvas, span: Span, box: Box, class_: str, words: str = "") -> str:
    return canvas.span(
        since=span.since,
        until=span.until,
        box=box,
        class_=class_,
        title=f"VM: {span.text} ({stamp(span.since)} to {stamp(span.until)})",
        lane="fake",
        labels=(Label(words=words, down=10),) if words else (),
    )


def _area(canvas: Canvas, span: Span, box: Box) -> str:
    left, right = canvas.scale.place(span.since), canvas.scale.place(span.until)
    return f"M{share(left)} {number(box.top)}H{share(right)}v{number(box.height)}H{share(left)}z"


def _staircase(canvas: Canvas, progress: Progress, until: float, box: Box) -> str:
    """What is on the disk, from the bottom up."""
    path = ""
    for at, count in progress.points:
        x = share(canvas.scale.place(at))
        y = number(box.bottom - box.height * min(count, progress.blocks) / progress.blocks)
        path += f"H{x}V{y}" if path else f"M{x} {number(box.bottom)}V{y}"
    right = share(canvas.scale.place(until))
    return f"{path}H{right}V{number(box.bottom)}z" if path else "M0 0"


def _at_the_end(
    canvas: Canvas, progress: Progress, gone: Span, lost: Span | None, box: Box
) -> Iterator[str]:
    """What is on the disk when it is gone, and what is not as it was acknowledged."""
    if len(progress.damaged) <= 1:
        yield _written(canvas, progress, gone, box)
    # what ends with the picture has no end that is known
    would = None if lost is None or lost.until == gone.until else lost
    for kind, runs in progress.damaged.items():
        for run in runs:
            yield _damage(canvas, gone, _run_box(progress, run, box), kind=kind, run=run)
    if would is not None and progress.points:
        since, until = canvas.scale.place(would.since), canvas.scale.place(would.until)
        y = box.bottom - box.height * progress.durable / progress.blocks
        line = f"M{share(since)} {number(y)}L{share(until)} {number(box.top)}"
        yield canvas.stretched(line, "would")
    for kind, runs in progress.damaged.items():
        for run in runs:
            yield _told(canvas, gone, _run_box(progress, run, box), _words(kind, run), would)


def _run_box(progress: Progress, run: tuple[int, int], box: Box) -> Box:
    """The place of a run of blocks, between the first at the bottom and the last at the top."""
    per = box.height / progress.blocks
    first, last = run
    height = max((last - first + 1) * per, 2.0)
    return Box(top=box.bottom - (last + 1) * per, height=height)


def _words(kind: str, run: tuple[int, int]) -> str:
    return f"{_DAMAGES.get(kind, kind)}: blocks {ranges(range(run[0], run[1] + 1))}"


def _damage(canvas: Canvas, gone: Span, box: Box, *, kind: str, run: tuple[int, int]) -> str:
    """Blocks that are not as they were acknowledged."""
    return canvas.span(
        since=gone.since,
        until=gone.until,
        box=box,
        class_="hatched",
        title=f"blocks {ranges(range(run[0], run[1] + 1))} {kind}: acknowledged to the guest, and"
        f" not on the disk as they should be, when the VM was gone at {stamp(gone.since)}",
        lane="fake",
    )


def _told(canvas: Canvas, gone: Span, box: Box, words: str, would: Span | None) -> str:
    """What is damaged, in words, over everything else."""
    if box.height < _LINE:
        return ""
    two = box.height >= _TWO and would is not None
    labels = [Label(words=words, down=12.0 if two else box.height / 2, class_="bad big halo")]
    if two and would is not None:
        until = f"the flush needed until {stamp(would.until)}"
        labels.append(Label(words=until, down=25, class_="bad halo small"))
    return canvas.caption(gone.since, gone.until, box, labels)


def _written(canvas: Canvas, progress: Progress, gone: Span, box: Box) -> str:
    high = box.height * progress.durable / progress.blocks
    words = Label(words=f"{progress.durable} blocks on disk", down=high / 2, class_="on")
    return canvas.span(
        since=gone.since,
        until=gone.until,
        box=Box(top=box.bottom - high, height=high),
        class_="clear",
        title=f"{progress.durable} of {progress.blocks} blocks are on the disk at the end",
        lane="fake",
        labels=(words,) if high >= _LINE else (),
    )


def _line(canvas: Canvas, mark: Mark, box: Box) -> str:
    bad = " bad" if mark.bad else ""
    path = f"M0 {number(box.top - 4)}v{number(box.height + 8)}"
    shape = element("path", d=path, class_=f"line{bad}")
    # a line of its own width is hard to point at
    shape += element("rect", x=-4, y=box.top, width=8, height=box.height, class_="clear")
    return canvas.mark(at=mark.at, title=text(str(mark)), lane="fake", shape=shape)
