"""Tell the processes that this one has started since a moment from those that were there before.

A process that was there at that moment is a bystander, however young it is. One that came later and
descends from this process is its own; so is one that has left the line, as a daemon does, and still
has the environment of the running test. Others are known by a fake's mark alone.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .mark import stat_fields, state

if TYPE_CHECKING:
    from collections.abc import Iterator

_PPID, _STARTED = 1, 19  # of the fields behind the name, see proc_pid_stat(5)

#: The variable in which pytest names the running test, for all that the test starts.
_TEST = "PYTEST_CURRENT_TEST"


class Lineage:
    """What this process starts from now on; needs no descriptors, so that forked children have it.

    :ivar owner: the process whose descendants count.
    """

    def __init__(self) -> None:
        self.owner = os.getpid()
        born = time.clock_gettime(time.CLOCK_BOOTTIME)
        # /proc counts in ticks, rounded down: whatever is there now has this one or an earlier one
        self._latest_tick = int(born * os.sysconf("SC_CLK_TCK"))
        # after the clock was read: a pid that is free now, and is given out later, is not in it
        self._there = {int(name) for name in os.listdir("/proc") if name.isdecimal()}  # noqa: PTH208  # names are enough
        self._test = os.environb.get(_TEST.encode())

    def was_there(self, pid: int) -> bool:
        """Say whether this very process, and not a later one of its number, was there before.

        :raises OSError: it has ended.
        """
        return pid in self._there and int(stat_fields(pid)[_STARTED]) <= self._latest_tick

    def came_since(self, pid: int) -> bool:
        """Say whether a process has been started since then by this one, or by what it started."""
        try:
            if self.was_there(pid):
                return False
            return self._descends(pid) or self._has_our_environment(pid)
        except OSError:
            return False  # it has ended, or one on the way has

    def living(self) -> Iterator[int]:
        """The pids of processes that have been started since then and have not ended."""
        for name in os.listdir("/proc"):  # noqa: PTH208  # names are enough
            if (
                name.isdecimal()
                and self.came_since(int(name))
                and state(int(name)) not in ("", "Z")
            ):
                yield int(name)

    def children(self) -> Iterator[int]:
        """The living processes that this one has started since then, and what those have started.

        Not those of a process that was there before.
        """
        for name in os.listdir("/proc"):  # noqa: PTH208  # names are enough
            if name.isdecimal() and self._is_child(int(name)):
                yield int(name)

    def _is_child(self, pid: int) -> bool:
        try:
            while pid > 1 and not self.was_there(pid):
                fields = stat_fields(pid)
                if fields[0] in ("Z", "X"):
                    return False
                pid = int(fields[_PPID])
                if pid == self.owner:
                    return True
        except OSError:
            pass  # it has ended, or one on the way has
        return False

    def _descends(self, pid: int) -> bool:
        ours = {self.owner, os.getpid()}
        while (parent := int(stat_fields(pid)[_PPID])) > 1:
            if parent in ours:
                return True
            pid = parent
        return False

    def _has_our_environment(self, pid: int) -> bool:
        if self._test is None:
            return False
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        return _TEST.encode() + b"=" + self._test in environment.split(b"\0")
