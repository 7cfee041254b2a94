"""The watchdog: a call that outlives its budget is cut off, with the stack that it hung in.

First everything that the call may wait for is ended (the VM and all that has its mark), which frees
most; then the calling thread itself is interrupted by an exception. What waits in C code and does
not answer to signals stays where it is: pytest-timeout is the last resort.
"""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from pytest_gracekill import clock
from pytest_gracekill.witness.sites import current_stack, frame_of
from pytest_gracekill.witness.standing import LOOK

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

    from pytest_gracekill.witness.history import Frame

_AFTER_KILL = 1.0
_BETWEEN_INTERRUPTS = 0.05


class CutOff(BaseException):
    """Raised in the thread of a call that outlived its budget; no Exception: nobody handles it."""


def interrupt(thread: threading.Thread) -> None:
    """Have another thread than the main one raise CutOff at the next line that it comes to.

    A wait for an Event, a Condition, a queue or a future is woken up for that. One for a plain lock
    or for the end of a thread is not: then it stands where it is.
    """
    ident = thread.ident
    if ident is None or not thread.is_alive():
        return
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(CutOff))
    frame = frame_of(ident)
    while frame is not None and frame.f_code.co_filename == threading.__file__:
        if frame.f_code is threading.Condition.wait.__code__:
            waiter = frame.f_locals.get("waiter")
            # taken by the wait itself, and let go by whoever notifies: now by us
            if waiter is not None:
                with suppress(RuntimeError):  # it was notified just now
                    waiter.release()
            return
        frame = frame.f_back


def _leave_signals_to_others() -> None:
    """Let this thread take no signal that is meant for the process.

    glibc's pthread_kill() sets the mask of its caller and sets it back, and Linux then gives the
    caller what waits for whoever takes it: pytest-timeout's SIGALRM, while the main thread sleeps
    on in a lock, and nobody else runs a handler of Python's.
    """
    if sys.platform != "win32":
        faults = {signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV}
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - faults)


class Watchdog:
    """Guards one call in the thread that enters it; a context manager that swallows its own CutOff.

    ``free`` is called in the watchdog's thread when the budget (seconds) is over. ``hung_in`` then
    holds the stack, innermost call first. ``look`` is called there every `LOOK` seconds until then.
    """

    def __init__(
        self, budget: float, free: Callable[[], None], look: Callable[[], None] | None = None
    ) -> None:
        self.expired = False
        self._look = look
        self.hung_in: tuple[Frame, ...] = ()
        self._budget = budget
        self._free = free
        self._guarded = threading.get_ident()
        self._done = threading.Event()
        self._armed = False
        self._previous: object = None
        self._thread = threading.Thread(
            target=self._watch, name="gracekill:watchdog-1", daemon=True
        )

    @property
    def _interruptible(self) -> bool:
        return (
            threading.current_thread() is threading.main_thread()
            and sys.platform != "win32"
            and signal.getsignal(signal.SIGURG) is not None
        )

    def __enter__(self) -> Self:
        if self._interruptible and sys.platform != "win32":
            # SIGURG: ignored by default, so that one that comes late harms nobody
            self._previous = signal.signal(signal.SIGURG, self._interrupt)
        self._armed = True
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._armed = False
        self._done.set()
        self._thread.join(10)
        if self._previous is not None and sys.platform != "win32":
            signal.signal(signal.SIGURG, self._previous)  # type: ignore[arg-type]
        return kind is CutOff

    def _interrupt(self, _signum: int, _frame: FrameType | None) -> None:
        if self._armed and self.expired:
            raise CutOff

    def _watch(self) -> None:
        _leave_signals_to_others()
        if self._ends_within(self._budget):
            return
        self.hung_in = current_stack(self._guarded)
        self.expired = True
        try:
            self._free()
        finally:
            # also when something cannot be ended: then all the more
            self._interrupt_until_done()

    def _ends_within(self, seconds: float) -> bool:
        if self._look is None:
            return self._done.wait(seconds)
        end = clock.monotonic() + seconds
        while (left := end - clock.monotonic()) > 0:
            if self._done.wait(min(left, LOOK)):
                return True
            self._look()
        return self._done.is_set()

    def _interrupt_until_done(self) -> None:
        if self._done.wait(_AFTER_KILL):
            return
        while not self._done.is_set():
            if self._previous is not None and sys.platform != "win32":
                signal.pthread_kill(self._guarded, signal.SIGURG)
            self._done.wait(_BETWEEN_INTERRUPTS)
