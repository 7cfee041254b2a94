"""The exception that cuts a call off, and the rule for when it may be raised.

A call is interrupted only while the guarded body's own frame is on the stack: what is raised there
comes to the guard, which swallows it. It is interrupted once, and then has time to clean up. It is
interrupted again when it goes on instead, or when its clean-up takes too long.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_gracekill import clock
from pytest_gracekill.witness.sites import frame_of

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds after which a call that has swallowed an interrupt is interrupted again, ...
_SWALLOWED = 0.2
#: ... and one that is still cleaning up after it.
_CLEAN_UP = 1.0
#: Exceptions of a chain that are looked at: a chain may be a circle.
_CHAIN = 100

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)


class CutOff(BaseException):
    """Raised in the thread of a call that outlived its budget; no Exception: nobody handles it."""


class _Withdrawn(BaseException):
    """Raised in the calling thread in place of what was pending there, and caught at once."""


def withdraw() -> None:
    """Take back an exception that another thread has set for this one and that is not raised yet.

    Setting NULL instead would leave CPython 3.11 with its flag for such exceptions set for ever:
    there a thread that is profiled or traced, and is not the main one, then never comes beyond the
    first instruction of a function. The flag is cleared where an exception is really raised.
    """
    try:
        _set_async_exc(threading.get_ident(), _Withdrawn)
        while True:
            pass
    except _Withdrawn:
        pass


class Pace:
    """Decides whether a call that was interrupted may be interrupted again.

    ``ident`` is the thread that makes the call.
    """

    def __init__(self, ident: int) -> None:
        self._ident = ident
        self._last: float | None = None

    def allows(self) -> bool:
        """Whether the call may be interrupted now; True counts as an interrupt."""
        now = clock.monotonic()
        if self._last is not None:
            wait = _CLEAN_UP if _handles_cut_off(self._ident) else _SWALLOWED
            if now - self._last < wait:
                return False
        self._last = now
        return True


def _handles_cut_off(ident: int) -> bool:
    """Whether a thread is in an ``except`` or ``finally`` block that a CutOff has led to.

    Unlike the exception that is raised, the one that is handled can be seen from a signal handler,
    and from another thread.
    """
    # CPython 3.11 has the three values of sys.exc_info() there
    found: object = sys._current_exceptions().get(ident)  # noqa: SLF001 - documented
    error = found[1] if isinstance(found, tuple) else found
    for _ in range(_CHAIN):
        if isinstance(error, CutOff):
            return True
        if not isinstance(error, BaseException):
            return False
        error = error.__context__
    return False


class Interruptible:
    """Runs one body, in any thread, that another thread may interrupt meanwhile."""

    def __init__(self) -> None:
        self._ident = ctypes.c_ulong()
        self._pace: Pace | None = None
        self._open = False
        self._sent = False

    def run(self, body: Callable[[], object]) -> None:
        """Call the body; a CutOff that comes out of it is swallowed. What else it raises is not."""
        ident = threading.get_ident()
        self._ident, self._pace = ctypes.c_ulong(ident), Pace(ident)
        try:
            try:
                self._open = True
                body()
            finally:
                # from here on none is set, and one that was set meanwhile is withdrawn
                self._open = False
                if self._sent:
                    withdraw()
        except CutOff:
            pass

    def interrupt(self) -> None:
        """Have the thread raise CutOff at the next line of the body that it comes to.

        Does nothing while the thread is not in the body, or cleans up after an earlier interrupt. A
        wait for an Event, a Condition, a queue or a future is woken up for that. One for a plain
        lock or for the end of a thread is not: then the thread stands where it is.
        """
        if not self._open or self._pace is None or not self._pace.allows():
            return
        ident, exception, interrupt = self._ident, ctypes.py_object(CutOff), _set_async_exc
        # Python changes threads after a call, never between this look and this call
        if self._open:
            self._sent = True
            interrupt(ident, exception)
        self._wake()

    def _wake(self) -> None:
        """Notify a Condition that the thread waits for."""
        frame = frame_of(self._ident.value)
        while frame is not None and frame.f_code.co_filename == threading.__file__:
            if frame.f_code is threading.Condition.wait.__code__:
                waiter = frame.f_locals.get("waiter")
                # acquired by the wait itself, and released by a notification: now by this
                if waiter is not None:
                    with suppress(RuntimeError):  # it was notified just now
                        waiter.release()
                return
            frame = frame.f_back
