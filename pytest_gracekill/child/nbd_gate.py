"""When a request of an NBD client gets through: a gate that holds it, a pace that delays it."""

from __future__ import annotations

import contextlib
import os
import threading

#: Seconds between a reply and the next request within which the client has not been idle.
_AT_ONCE = 0.020


class Gate:
    """What holds writes and flushes; open at first. For use from any thread."""

    def __init__(self) -> None:
        #: Set when a request has come to stand before the gate, cleared by `hold`.
        self.seen = threading.Event()
        #: Seconds for which requests have stood before the gate, but for one that still does.
        self.stood = 0.0
        self._lock = threading.Lock()
        self._held = False
        self._let = 0
        self._fd = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    @property
    def held(self) -> bool:
        return self._held

    def hold(self) -> None:
        """From now on nothing gets through; what is in its delay already does."""
        with self._lock:
            self.seen.clear()
            self._held, self._let = True, 0
            self._show()

    def let(self, requests: int) -> None:
        """Let so many more requests through, and hold those after them."""
        with self._lock:
            self.seen.clear()
            self._held = True
            self._let += requests
            self._show()

    def open(self) -> None:
        """Let everything through."""
        with self._lock:
            self._held, self._let = False, 0
            self._show()

    def fileno(self) -> int:
        """Readable while a request may get through."""
        return self._fd

    def passes(self) -> bool:
        """Take a request through, if that may be."""
        with self._lock:
            if self._held and not self._let:
                self.seen.set()
                return False
            self._let -= bool(self._held)
            self._show()
            return True

    def close(self) -> None:
        """Give back the descriptor; nobody may stand at the gate any more.

        To hold it or to open it has no effect then.
        """
        with self._lock:
            os.close(self._fd)
            self._fd = -1

    def _show(self) -> None:
        if self._fd < 0:
            return  # the number may be another file's by now
        with contextlib.suppress(BlockingIOError):  # it was not readable
            os.eventfd_read(self._fd)
        if not self._held or self._let:
            os.eventfd_write(self._fd, 1)

    def __repr__(self) -> str:
        return f"<Gate {'held' if self._held else 'open'}>"


class Pace:
    """When each of a row of slow requests is done, so that the row takes as long as it should.

    A client that sends its next request as soon as it has the answer is not charged for the time in
    which its machine was busy with something else.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due = self._answered = float("-inf")

    def due(self, arrived: float, delay: float) -> float:
        """The moment at which a request that came at ``arrived`` is done; in seconds."""
        with self._lock:
            idle = arrived - self._answered > _AT_ONCE
            self._due = (arrived if idle else self._due) + delay
            return self._due

    def answered(self, now: float) -> None:
        """Say that a slow request was answered."""
        with self._lock:
            self._answered = now
