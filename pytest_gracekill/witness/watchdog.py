"""The watchdog: a call that outlives its budget is cut off, with the stack that it hung in.

First everything that the call may wait for is ended (the VM and all that has its mark), which frees
most; then the calling thread itself is interrupted by an exception. A signal has it look whether
its body still runs, and only then it raises: what it raises comes to the watchdog, never to
whoever has called it. What waits in C code and does not answer to signals stays where it is:
pytest-timeout is the last resort.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING, Self

from pytest_gracekill.witness.cut_off import CutOff, Pace
from pytest_gracekill.witness.debugger import Budget
from pytest_gracekill.witness.sites import current_stack
from pytest_gracekill.witness.standing import LOOK

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

    from pytest_gracekill.witness.history import Frame

_AFTER_KILL = 1.0
_BETWEEN_INTERRUPTS = 0.05


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
    The time at a debugger's prompt does not count.
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
        self._pace = Pace(self._guarded)
        #: The frame that has the guarded body; None before it begins, and when it has ended.
        self._guards: FrameType | None = None
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
        self._guards = sys._getframe(1)  # noqa: SLF001 - documented
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        # the first step: `_interrupt` raises only while there is a guarded frame
        self._guards = None
        try:
            self._done.set()
            self._thread.join(10)
        finally:
            self._restore_handler()
        return kind is CutOff

    def _restore_handler(self) -> None:
        if self._previous is not None and sys.platform != "win32":
            signal.signal(signal.SIGURG, self._previous)  # type: ignore[arg-type]

    def _interrupt(self, _signum: int, frame: FrameType | None) -> None:
        guards, own = self._guards, False
        while frame is not None and frame is not guards:
            own = own or frame.f_code in _OWN
            frame = frame.f_back
        if guards is None or own:
            return
        if frame is None:
            # the user's interrupt came when the body had ended, and took the place of __exit__
            self._guards = None
            self._done.set()
            self._restore_handler()
        elif self.expired and self._pace.allows():
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
        budget = Budget(seconds)
        while (left := budget.left()) > 0:
            if self._done.wait(min(left, LOOK)):
                return True
            if self._look is not None:
                self._look()
        return self._done.is_set()

    def _interrupt_until_done(self) -> None:
        if self._done.wait(_AFTER_KILL):
            return
        while not self._done.is_set():
            if self._previous is not None and sys.platform != "win32":
                signal.pthread_kill(self._guarded, signal.SIGURG)
            self._done.wait(_BETWEEN_INTERRUPTS)


#: Here a watchdog begins or ends: an interrupt would come out of it.
_OWN = frozenset({Watchdog.__enter__.__code__, Watchdog.__exit__.__code__})
