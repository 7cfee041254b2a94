"""Whether a thread that does not come back blocks for real, computes, or only has no core yet.

What a busy machine makes of a thread looks like blocking from within: nothing happens. The kernel
tells them apart: a thread that blocks sleeps (S, D) and is not switched to; one that waits for a
core is runnable (R); one that computes, or polls, uses up time.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_gracekill import clock

if TYPE_CHECKING:
    import threading

#: Wall seconds of uninterrupted sleep; in D a disk may be at work.
BLOCKED = 3.0
BLOCKED_IN_D = 20.0
#: Seconds on a core for one step, which takes microseconds.
COMPUTES = 5.0
#: Wall seconds for whatever else it may be that does not come to an end: polling, say.
AT_ALL = 60.0
#: So many looks at least: this process may have been stopped as well.
_LOOKS = 3
#: The same of one that computes: what a hypervisor takes from a core counts as its thread's time.
_LOOKS_AT_WORK = 8

_monotonic = clock.monotonic
_TICKS = os.sysconf("SC_CLK_TCK")


class _Seen(NamedTuple):
    """``switches``: how often it was given a core, or has given it back."""

    state: str
    seconds: float
    switches: int


def _look(native_id: int) -> _Seen | None:
    """How a thread of this process stands; None when nobody says."""
    if sys.platform != "linux":
        return None
    folder = Path(f"/proc/self/task/{native_id}")
    try:
        fields = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        status = (folder / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended
        return None
    state, *numbers = fields.rpartition(")")[2].split()
    switches = sum(
        int(line.partition(":")[2]) for line in status.splitlines() if "ctxt_switches" in line
    )
    return _Seen(state, (int(numbers[10]) + int(numbers[11])) / _TICKS, switches)


class Standstill:
    """Looks at one thread again and again while it does not come back."""

    def __init__(self, thread: threading.Thread) -> None:
        self._native_id = thread.native_id or 0
        self._began = _monotonic()
        self._first = self._last = _look(self._native_id)
        self._since = self._began
        self._looks = 0
        self._all_looks = 0

    def judged(self) -> str | None:
        """What it does instead, ``"waits"`` or ``"computes"``; None: it is too early to say."""
        now, seen = _monotonic(), _look(self._native_id)
        self._looks += 1
        self._all_looks += 1
        if seen != self._last or seen is None or seen.state not in "SD":
            self._last, self._since, self._looks = seen, now, 0
        elif self._looks >= _LOOKS:
            limit = BLOCKED if seen.state == "S" else BLOCKED_IN_D
            if now - self._since > limit:
                return "waits"
        first = self._first
        used = 0.0 if seen is None or first is None else seen.seconds - first.seconds
        if used > COMPUTES and self._all_looks >= _LOOKS_AT_WORK:
            return "computes"
        return "waits" if now - self._began > AT_ALL else None
