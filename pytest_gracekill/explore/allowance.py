"""The time that a search has: CPU time, so that a busy machine does not make it look at less.

Wall time is limited, too, to several times that: a machine may give it next to no CPU time.
"""

from __future__ import annotations

import time

from pytest_gracekill import clock

#: So many times the CPU time is the limit of wall time.
WALL = 5

# the module's own may be simulated later
_monotonic = clock.monotonic


def cpu() -> float:
    """Return the CPU seconds that this process has used, in all of its threads."""
    if hasattr(time, "CLOCK_PROCESS_CPUTIME_ID"):
        # process_time() may be frozen by a library
        return time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)
    return time.process_time()


class Allowance:
    """``seconds`` of CPU time from now on, and ``wall`` seconds at most (None: `WALL` times that).

    Parts of it are given by the reading of `cpu` at which they end.
    """

    def __init__(self, seconds: float, wall: float | None = None) -> None:
        self._seconds = seconds
        self._wall = WALL * seconds if wall is None else min(wall, WALL * seconds)
        self._began = cpu()
        self._wall_end = _monotonic() + self._wall
        #: The reading of `cpu` at which the CPU time is over.
        self.end = self._began + seconds

    def left(self, until: float | None = None) -> float:
        """Return the seconds that are left, of CPU or wall time, whichever is less.

        :param until: the reading of `cpu` at which a part ends; None is the whole.
        """
        end = self.end if until is None else min(until, self.end)
        return min(end - cpu(), self._wall_end - _monotonic())

    def over(self) -> str:
        """Say which of the two limits was reached."""
        if _monotonic() < self._wall_end:
            return f"its {self._seconds:g} s were over (CPU time)"
        used = cpu() - self._began
        return (
            f"its {self._wall:.3g} s were over (wall time; it could compute for {used:.3g} s of"
            f" {self._seconds:g} s)"
        )
