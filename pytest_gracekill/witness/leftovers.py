"""What is left of a VM that was reported dead: its other processes, its disk lock, its pid file.

Processes are found by the mark that each of them holds, not by parentage: a helper may have left
the session, and been adopted.
"""

from __future__ import annotations

import os
import select
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gracekill import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: How long something that is about to vanish may take, in seconds: an exit is not one instant, and
#: a busy machine lets a wrapper that only has to end stand for a while.
SETTLE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A process that outlived the VM."""

    pid: int
    role: str

    def __str__(self) -> str:
        return f"{self.role} {self.pid}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What was there shortly after the routine had reported success; ``locked`` in words."""

    started: int
    orphans: tuple[Orphan, ...]
    locked: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.started} processes started, {len(self.orphans)} alive, {len(self.locked)} locks"
        )


def look(
    *,
    started: int,
    processes: Callable[[], Iterable[Orphan]],
    holds: Iterable[tuple[str, Callable[[], bool]]],
) -> Leftovers:
    """See what is left; what vanishes within :data:`SETTLE` is not left.

    ``holds`` are pairs of a description ("the disk is locked") and a question.
    """
    deadline = clock.monotonic() + SETTLE
    orphans = [orphan for orphan in processes() if not _ended(orphan.pid, deadline)]
    # processes that died meanwhile have let go of what they held
    return Leftovers(
        started=started,
        orphans=tuple(orphans),
        locked=tuple(what for what, question in holds if question()),
    )


def _ended(pid: int, deadline: float) -> bool:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(max(deadline - clock.monotonic(), 0.0) * 1000))
    finally:
        os.close(fd)
