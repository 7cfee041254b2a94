"""A line on the terminal while something takes long: below where pytest writes, gone afterwards.

It is written to the terminal itself, whatever is captured, from a thread that sleeps in between.
The cursor stays where it is, so that pytest, which writes next, does not know of it. There is none
where output goes to a file or a pipe, in a worker of xdist, where logs are shown as they come, on
CI, or on a terminal that has no cursor to move.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from pytest_gracekill import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

#: Seconds that something takes before it is told of, and from one look at it to the next.
AFTER = 2.0
EVERY = 0.2
#: Seconds for a terminal that takes nothing (stopped by ^S, say), then it goes without.
_PATIENCE = 1.0
_SMALLEST, _USUAL = 20, 80

# a line below there is, the cursor is kept; then to that line, and all of it anew
_DOWN = "\x1bD\x1b[A\x1b7\x1b[B\r\x1b[2K"
_BACK = "\x1b8"
#: Everything behind the cursor, also in the lines below.
_GONE = "\x1b[J"


class ProgressLine:
    """The line of one terminal.

    ``fd`` is a descriptor of it that nobody captures. ``streams`` are those that write there beside
    pytest, under ``-s``: what a test prints is not written into the line.
    """

    def __init__(self, fd: int, streams: tuple[TextIO, ...] = ()) -> None:
        self._fd = fd
        self._streams = streams
        self._tells: list[Callable[[], str]] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._shown = False
        self._paused = False

    @contextmanager
    def during(self, tell: Callable[[], str], *, since: float | None = None) -> Iterator[None]:
        """Tell of something when it takes longer than `AFTER`; within another, of both.

        ``since``: when it has begun, in CLOCK_MONOTONIC seconds.
        """
        self._tells.append(tell)
        if len(self._tells) > 1:
            try:
                yield
            finally:
                self._tells.pop()
            return
        due = (clock.monotonic() if since is None else since) + AFTER
        self._stop = threading.Event()
        ticker = threading.Thread(
            target=self._tick, args=(self._stop, due), name="gracekill:terminal-1", daemon=True
        )
        ticker.start()
        try:
            yield
        finally:
            self._stop.set()
            self._tells.pop()
            ticker.join(_PATIENCE)
            self.erase()

    def pause(self) -> None:
        """Leave the terminal to somebody else, such as a debugger."""
        self._paused = True
        self.erase()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._paused = False

    def erase(self) -> None:
        """Take the line away, if it is there."""
        with self._away():
            pass

    def close(self) -> None:
        """Let go of the terminal."""
        os.close(self._fd)

    def _tick(self, stop: threading.Event, due: float) -> None:
        if stop.wait(max(due - clock.monotonic(), 0.0)):
            return
        with self._giving_way():
            # what is over within the next moment is not worth a line
            while not stop.wait(EVERY):
                self._show("; ".join(tell() for tell in list(self._tells)), stop)

    def _show(self, text: str, stop: threading.Event) -> None:
        with self._lock:
            if self._paused or stop.is_set():
                return
            try:
                # one that was never told its size says 0, as on a serial line
                width = os.get_terminal_size(self._fd).columns or _USUAL
            except OSError:
                return
            if width >= _SMALLEST:
                plain = "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
                # not in the last column: some terminals then begin a new line
                self._write(f"{_GONE}{_DOWN}{f'gracekill: {plain}'[: width - 1]}{_BACK}")
                self._shown = True

    def _write(self, text: str) -> None:
        # a terminal that is gone has no line
        with suppress(OSError):
            os.write(self._fd, text.encode("ascii"))

    @contextmanager
    def _away(self) -> Iterator[None]:
        """The line is taken away, and does not come back meanwhile."""
        # also asked for when none is known of: it may be just being written
        held = self._lock.acquire(timeout=_PATIENCE)
        try:
            if held and self._shown:
                self._write(_GONE)
                self._shown = False
            yield
        finally:
            if held:
                self._lock.release()

    @contextmanager
    def _giving_way(self) -> Iterator[None]:
        """Whatever is printed meanwhile is printed where there is no line."""
        for stream in self._streams:
            with suppress(AttributeError):  # one that cannot be had so prints as it likes
                stream.write = self._before(stream.write)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for stream in self._streams:
                with suppress(AttributeError):
                    del stream.write

    def _before(self, write: Callable[[str], int]) -> Callable[[str], int]:
        def write_alone(text: str) -> int:
            with self._away():
                return write(text)

        return write_alone


def on_terminal(
    environment: Mapping[str, str], *, captured: bool, out: TextIO | None = None
) -> ProgressLine | None:
    """The line of the terminal that is written to; None where it has none to move about in."""
    out = sys.stdout if out is None else out
    if environment.get("TERM", "dumb") in ("dumb", "unknown", "") or environment.get("CI"):
        return None
    try:
        fd = os.dup(out.fileno())
    except (OSError, ValueError):
        return None
    streams = () if captured else (sys.stdout, sys.stderr)
    return ProgressLine(fd, tuple(stream for stream in streams if stream.isatty()))
