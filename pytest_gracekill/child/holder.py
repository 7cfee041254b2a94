"""The holder: who keeps a fake from the command line alive, and ends it when its time is up.

The command line's own process becomes the fake by exec, so that the caller has the right pid. A
process beside it keeps the write end of the mark: as long as `--while` lives and `--lifetime`
lasts, or until nothing of the fake is left.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
from typing import TYPE_CHECKING

from pytest_gracekill import clock

from .mark import Mark

if TYPE_CHECKING:
    from pathlib import Path


def start(directory: Path, lifetime: float, while_pidfd: int) -> None:
    """Start the holder for the fake that this process is about to become.

    Returns when the mark is there; the FIFO `ready` in `directory` has to be there before.
    """
    fake = os.pidfd_open(os.getpid())
    told, telling = os.pipe()
    middle = os.fork()
    if middle == 0:
        # twice, so that the fake has no child that it knows nothing of
        if os.fork() == 0:
            _hold(directory, clock.monotonic() + lifetime, while_pidfd, fake, telling)
        os._exit(0)
    os.close(telling)
    with contextlib.suppress(ChildProcessError):  # the caller ignores SIGCHLD, and so do we
        os.waitpid(middle, 0)
    held = os.read(told, 1)
    os.close(told)
    os.close(fake)
    if not held:
        raise OSError(0, f"the holder of {directory} did not start")


def _hold(directory: Path, deadline: float, while_pidfd: int, fake: int, telling: int) -> None:
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)  # a caller may read its pipe to the end
    try:
        mark = Mark(directory / "mark")
        ready = os.open(directory / "ready", os.O_RDWR | os.O_NONBLOCK)
        os.write(telling, b"!")
        os.close(telling)
        try:
            if _first(deadline, (ready, select.POLLIN), (fake, select.POLLIN)) == ready:
                # POLLERR on the write end: the last process that had the mark has gone
                _first(deadline, (mark.fileno(), 0), (while_pidfd, select.POLLIN))
        finally:
            mark.release()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os._exit(0)


def _first(deadline: float, *watched: tuple[int, int]) -> int:
    """Return the first descriptor that has something to say; -1 when it is too late."""
    poll = select.poll()
    for fd, events in watched:
        if fd >= 0:
            poll.register(fd, events)
    while True:
        left = deadline - clock.monotonic()
        # poll() counts in an int of milliseconds
        events_seen = poll.poll(min(max(0.0, left), 86400.0) * 1000)
        if events_seen:
            return events_seen[0][0]
        if left <= 0:
            return -1
