"""What is to be seen, in a few plain sentences, for whoever sees such a picture the first time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.child.disk import ranges
from pytest_gracekill.render.picture.fake import is_judged
from pytest_gracekill.render.picture.records import stamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gracekill.render.picture.fake import Course
    from pytest_gracekill.render.picture.records import Lane, Link
    from pytest_gracekill.render.record import Record

#: Names that a sentence has room for.
_NAMES = 4


def tell(
    course: Course, record: Record, lanes: Sequence[Lane], links: Sequence[Link]
) -> Iterator[str]:
    """The sentences: the flush, its end, who stood still behind whom."""
    vm = next((lane for lane in lanes if lane.kind == "fake"), None)
    if vm is not None:
        yield from _flush(course, record, vm)
    yield from _standstill(lanes, links)


def _flush(course: Course, record: Record, vm: Lane) -> Iterator[str]:
    progress = vm.progress
    asked = course.request if course.request is not None else course.flush_begin
    if asked is not None and course.flush_begin is not None and progress is not None:
        yield (
            f"The VM was asked to stop at {stamp(asked)}, and began to write its"
            f" {progress.blocks} blocks to the disk; its guest takes them for written already."
        )
    elif asked is not None:
        yield f"The VM was asked to stop at {stamp(asked)}."
    if course.end is None or progress is None:
        return
    disk = record.disk
    if course.by_trial:
        yield f"It still ran when the trial was over, and was ended then ({stamp(course.end)})."
    elif disk is not None and any(disk.damaged.values()) and is_judged(course, record):
        damage = "; ".join(
            f"{len(numbers)} of {disk.blocks} blocks {kind} ({ranges(numbers)})"
            for kind, numbers in disk.damaged.items()
            if numbers
        )
        how = "was killed" if course.killed else "ended"
        would = ""
        if record.flush_total is not None and course.flush_begin is not None:
            until = course.flush_begin + record.flush_total
            if until > course.end:
                would = f" The flush would have ended at {stamp(until)}."
        yield (
            f"It {how} at {stamp(course.end)}, with {progress.durable} of {progress.blocks} blocks"
            f" written: {damage}.{would}"
        )
    elif course.flush_end is not None:
        yield (
            f"All {progress.blocks} blocks were on the disk at {stamp(course.flush_end)}, and it"
            f" exited at {stamp(course.end)}."
        )


def _standstill(lanes: Sequence[Lane], links: Sequence[Link]) -> Iterator[str]:
    stalled = [lane for lane in lanes if any(span.kind == "stalls" for span in lane.spans)]
    contenders = [lane for lane in lanes if lane.kind == "contender"]
    if not stalled:
        return
    names = [lane.name for lane in stalled]
    told = ", ".join(names[:_NAMES])
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    everybody = len(contenders) or sum(lane.kind == "thread" for lane in lanes)
    everybody = max(everybody, len(stalled))
    if everybody == 1:
        count = "Meanwhile the only other thread" if contenders else "The only thread"
    else:
        other = "Meanwhile {} of {} other threads" if contenders else "{} of {} threads"
        count = other.format(len(stalled), everybody)
    yield f"{count} stood still ({told}{more})."
    by_key = {lane.key: lane.name for lane in lanes}
    chain = [
        f"{by_key[link.source]} waited for {link.lock}, held by {by_key[link.target]}"
        for link in links
        if link.because
    ]
    if chain:
        yield f"The reason: {'; '.join(chain)}."
