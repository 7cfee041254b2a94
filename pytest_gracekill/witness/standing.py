"""Where the routine's thread stands, looked at twenty times a second: what a picture shows of it.

Each place is put on record once, with the line of its source, from the first to the last look that
found it there, and with the share of that time for which the thread used the processor: a loop that
only looks busy is told from one that is. What lies between two looks is not seen.
"""

from __future__ import annotations

import linecache
import time
from typing import TYPE_CHECKING

from pytest_gracekill.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gracekill.witness.history import Frame, History

#: Seconds from one look to the next.
LOOK = 0.05

#: Frames of a place that are kept, and characters of its line.
_DEPTH = 2
_WIDTH = 80


class Standing:
    """Puts on record where one thread stands; `look` is called by whoever watches it.

    ``where`` answers with the stack, innermost first, ``ident`` is the thread's.
    """

    def __init__(
        self, history: History, actor: str, where: Callable[[], tuple[Frame, ...]], ident: int
    ) -> None:
        self._history = history
        self._actor = actor
        self._where = where
        self._clock = time.pthread_getcpuclockid(ident) if _has_clocks() else None
        self._stood: tuple[Frame, ...] = ()
        self._since = self._last = 0
        self._used_before = self._used = 0.0

    def look(self) -> None:
        """See where it stands now."""
        now, stands = monotonic_ns(), self._where()[:_DEPTH]
        if stands != self._stood:
            self.end()
            self._stood, self._since, self._used_before = stands, now, self._processor()
        self._last, self._used = now, self._processor()

    def end(self) -> None:
        """Put the last place on record."""
        if self._stood and self._last > self._since:
            first = self._stood[0]
            took = (self._last - self._since) / 1e9
            self._history.record(
                "stand",
                self._actor,
                self._since,
                until_ns=self._last,
                busy=round(min((self._used - self._used_before) / took, 1.0), 2),
                code=linecache.getline(first.file, first.line).strip()[:_WIDTH],
                site=[
                    {"file": frame.file, "line": frame.line, "function": frame.function}
                    for frame in self._stood
                ],
            )
        self._stood = ()

    def _processor(self) -> float:
        """Seconds of processor time that the thread has used."""
        return 0.0 if self._clock is None else time.clock_gettime(self._clock)


def _has_clocks() -> bool:
    return hasattr(time, "pthread_getcpuclockid") and hasattr(time, "clock_gettime")
