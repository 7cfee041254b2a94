"""Processes that a killed warden has left, found by the environment that they were started with.

It cannot see a process that was started with an environment of its own (`env -i`, sudo), nor one
of another user.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from pytest_gracekill import clock

from . import mark as marks
from .program.warden import VARIABLE


def end(path: Path, born: float, timeout: float) -> list[int]:
    """SIGKILL what was started below the warden with the FIFO at `path`; return what is left.

    :param born: CLOCK_BOOTTIME seconds, before which none of it was started.
    :param timeout: in seconds, for all of them.
    """
    deadline = clock.monotonic() + timeout
    entry = os.fsencode(f"{VARIABLE}={path}")
    while found := [pid for pid in marks.processes_since(born) if _has(pid, entry)]:
        if clock.monotonic() > deadline:
            return found
        for pid in found:
            _strike(pid, entry, deadline)
    return []


def _strike(pid: int, entry: bytes, deadline: float) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return  # it has ended
    try:
        # looked at after the pidfd was opened: what has it now is what the pidfd means
        if _has(pid, entry):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            marks.await_end(pidfd, deadline - clock.monotonic())
    finally:
        os.close(pidfd)


def _has(pid: int, entry: bytes) -> bool:
    try:
        return entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False  # ended, or not ours to look at
