"""SIGINT, held back while locks and references change hands.

In the main thread a KeyboardInterrupt can come between any two bytecodes, and no ``try`` covers the
gap before itself. So the handler of SIGINT is replaced for the length of the call: it passes the
interrupt on while the routine sleeps, and otherwise takes note of it, to be delivered when
everything is back in its place. A handler that is not Python's (default, ignored, set from C) does
not raise in Python code and is left alone. Exceptions that other signals' handlers raise, or that
another thread injects, are not held back.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType


class Interrupts:
    """A context: in it SIGINT raises only within ``let_in()``; else it is delivered after."""

    def __init__(self) -> None:
        self._previous: Callable[[int, FrameType | None], object] | None = None
        self._open = False
        self._noted = False
        self._frame: FrameType | None = None

    def __enter__(self) -> Self:
        if threading.get_ident() != threading.main_thread().ident:
            return self  # no handler ever runs here
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            self._previous = handler
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._previous is None:
            return
        # whoever set another handler meanwhile keeps it
        if signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, self._previous)
        self._deliver()

    @contextmanager
    def let_in(self) -> Iterator[None]:
        """While this lasts SIGINT takes its course; one that came before is delivered at once."""
        self._open = True
        try:
            if self._noted:
                self._open = False
                self._deliver()
                self._open = True
            yield
        finally:
            self._open = False

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._open and self._previous is not None:
            # from here on the exception is on its way: a second one has to wait
            self._open = False
            self._previous(signum, frame)
            self._open = True
        else:
            self._noted = True
            self._frame = frame

    def _deliver(self) -> None:
        if self._noted and self._previous is not None:
            frame, self._frame = self._frame, None
            self._noted = False
            self._previous(signal.SIGINT, frame)
