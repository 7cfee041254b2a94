"""Whether a process comes from this one: a manager that starts the fake may start others beside it.

What daemonises leaves the line, and is known by the fake's mark alone.
"""

from __future__ import annotations

import os
import time

from .mark import stat_fields

_PPID, _STARTED = 1, 19  # of the fields behind the name, see proc_pid_stat(5)


def now() -> float:
    """The moment as /proc tells when a process has started: CLOCK_BOOTTIME seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def came_since(pid: int, moment: float) -> bool:
    """Say whether a process has started since then, and descends from this one."""
    try:
        fields = stat_fields(pid)
        # /proc counts in ticks: one that came within the same tick is taken as younger
        if (int(fields[_STARTED]) + 1) / os.sysconf("SC_CLK_TCK") < moment:
            return False
        while (parent := int(fields[_PPID])) > 1:
            if parent == os.getpid():
                return True
            fields = stat_fields(parent)
    except OSError:
        return False  # it has ended, or one on the way has
    return False
