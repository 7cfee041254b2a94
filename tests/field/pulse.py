"""Whether the machine stood still: a thread wants to run every 20 ms, and sees when it can not."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

EVERY = 0.02


class Pulse:
    """A context manager; ``longest`` is the longest pause of its thread, in seconds.

    It sees a machine that nobody runs on, and a test process that does not get a core. It does not
    see that some other process gets none.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="field:pulse", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        before = time.monotonic()
        over = False
        while not over:
            over = self._over.wait(EVERY)
            now = time.monotonic()
            self.longest = max(self.longest, now - before - EVERY)
            before = now
