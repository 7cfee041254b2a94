"""One run of a domain: id, pid and start time, by which a pid that was used again is told apart."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

#: 0-based position of ``starttime`` among the fields that follow the name in /proc/PID/stat
_START_FIELD = 19
#: Linux gives no pid from here on (PID_MAX_LIMIT, proc_sys_kernel(5)).
_NO_PID = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Incarnation:
    """Id, pid and start time; ``started`` is ``None`` where the process could not be looked at."""

    id: int
    pid: int
    started: float | None = None

    def __str__(self) -> str:
        return f"incarnation {self.id} (pid {self.pid})"


def start_time(pid: int) -> float | None:
    """When the process started, on a clock that is never set; ``None`` when there is no process.

    On Linux seconds since boot, from /proc: psutil's creation time moves whenever the wall clock is
    corrected, and would make a stranger of our own process.
    """
    if sys.platform == "linux":
        if pid >= _NO_PID:
            return None
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        # the name may hold spaces and parentheses: fields are counted from its end
        ticks = stat.rpartition(")")[2].split()[_START_FIELD]
        return int(ticks) / os.sysconf("SC_CLK_TCK")
    return _creation_time(pid)


def _creation_time(pid: int) -> float | None:
    import psutil  # noqa: PLC0415 - costs milliseconds, and Linux does not need it

    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None
