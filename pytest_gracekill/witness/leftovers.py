"""What is left of a VM that was reported dead: its other processes, and its resources.

The resources are its disk lock, its QMP socket and its pid file.

Processes are found by the mark that each of them holds, not by parentage: a helper may have left
the session, and been adopted.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pytest_gracekill import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

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


Resource = Literal["disk lock", "QMP socket", "pid file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Something of the VM that is there although the VM is not.

    ``by`` are the processes that have the file open, as far as /proc shows them.
    """

    what: Resource
    path: Path
    by: tuple[Orphan, ...] = ()

    def __str__(self) -> str:
        text = "the disk is locked" if self.what == "disk lock" else f"the {self.what} is there"
        return f"{text} by {', '.join(map(str, self.by))}" if self.by else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What was there shortly after the routine had reported success."""

    started: int
    orphans: tuple[Orphan, ...]
    locked: tuple[Held, ...]

    def __str__(self) -> str:
        return (
            f"{self.started} processes started, {len(self.orphans)} alive, {len(self.locked)} locks"
        )


def look(
    *,
    started: int,
    processes: Callable[[], Iterable[Orphan]],
    holds: Iterable[tuple[Held, Callable[[], bool]]],
) -> Leftovers:
    """See what is left; what vanishes within :data:`SETTLE` is not left.

    ``holds`` are pairs of what may be there, and a question that says whether it is.
    """
    deadline = clock.monotonic() + SETTLE
    orphans = tuple(orphan for orphan in processes() if not _ended(orphan.pid, deadline))
    # processes that died meanwhile have let go of what they held
    return Leftovers(
        started=started,
        orphans=orphans,
        locked=tuple(_named(held, orphans) for held, question in holds if question()),
    )


def _named(held: Held, orphans: tuple[Orphan, ...]) -> Held:
    """Add who holds the disk's lock; a file that is merely there is held by nobody."""
    if held.what != "disk lock":
        return held
    known = {orphan.pid: orphan for orphan in orphans}
    by = (known.get(pid) or Orphan(pid=pid, role=_name(pid)) for pid in _having_open(held.path))
    return replace(held, by=tuple(by))


def _having_open(path: Path) -> Iterator[int]:
    """The processes that have a file open, of those whose descriptors may be seen."""
    try:
        wanted = path.stat()
    except OSError:
        return
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        with suppress(OSError):  # it has ended, or is somebody else's
            for entry in (folder / "fd").iterdir():
                with suppress(OSError):
                    if os.path.samestat(entry.stat(), wanted):
                        yield int(folder.name)
                        break


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "process"


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
