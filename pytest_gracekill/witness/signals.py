"""The signal recorder: every signal that the process sends during a trial, seen before it is sent.

``os.kill`` and ``os.killpg`` are watched by an audit hook (`signal_audit`), under whatever name
they are called; ``subprocess``, ``multiprocessing`` and ``psutil`` call them.
``signal.pidfd_send_signal`` raises no auditing event: it is replaced for the length of the trial
where a module has it by name, and not seen in a class, a closure, a default argument or a partial.
Signals to pid 0, -1, our own group or process, or to a process without the trial's mark that was
there before are refused with EPERM and recorded. A forked child is guarded, too, until the trial is
over. Signals from C code or from other processes are not seen here: the journal of the VM has those
that reach it.

The outcome of ``os.kill`` is recorded before the call: signal 0 to the same process is answered
with the same error.
"""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pytest_gracekill import clock
from pytest_gracekill.data.requests import signal_name
from pytest_gracekill.witness import signal_audit
from pytest_gracekill.witness.bindings import put_back, replaced
from pytest_gracekill.witness.forked_signals import ForkedSignals
from pytest_gracekill.witness.history import current_stack
from pytest_gracekill.witness.recipients import Recipients
from pytest_gracekill.witness.returning import when_returned
from pytest_gracekill.witness.sent_signal import OTHER_RUN, SentSignal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType

    from pytest_gracekill.data.requests import Unheard
    from pytest_gracekill.witness.history import Frame, History
    from pytest_gracekill.witness.recipients import Addressed, Known

__all__ = ["OTHER_RUN", "SentSignal", "SignalRecorder", "signal_name"]

#: Files between a caller and the signal, which tell nothing about where it was sent.
_STDLIB = Path(os.__file__).parent
_ON_THE_WAY = tuple(str(_STDLIB / name) for name in ("subprocess.py", "multiprocessing", "asyncio"))
_PSUTIL = str(Path("psutil", "__init__.py"))


class SignalRecorder:
    """Records and guards; a context manager. ``whose(pid)`` says what a process is to the trial.

    It answers ``None`` for a stranger. ``folder`` is the VM's: forked children leave a record of
    their signals there, and know by the mark in it that the trial is not over.
    """

    def __init__(
        self, whose: Callable[[int], Known | None], history: History, folder: Path
    ) -> None:
        self._sent: list[SentSignal] = []
        self._mark = folder / "mark"
        self._forked = ForkedSignals(folder / "signals-of-forked-children")
        #: Threads of the harness itself, by ident: their signals pass and are not recorded.
        self.exempt: set[int] = set()
        self._recipients = Recipients(whose)
        self._history = history
        self._owner = os.getpid()
        #: What the calling thread has to do when its signal was sent; None for nothing.
        self.after_signal: Callable[[], Callable[[], None] | None] = lambda: None
        #: The names of the locks that the calling thread holds.
        self.held: Callable[[], tuple[str, ...]] = tuple
        #: Why the VM cannot act on a stop signal that is sent now; None where it can.
        self.why_unheard: Callable[[int], Unheard | None] = lambda _signum: None
        self._over = False
        self._stack = ExitStack()

    @property
    def sent(self) -> list[SentSignal]:
        """Every signal so far, in the order in which they were sent."""
        forked = self._forked.take()
        for sent in forked:
            self._keep(sent)
        if forked:
            self._sent.sort(key=lambda sent: sent.at_ns)
        return list(self._sent)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(signal_audit.watched(self._before))
            if sys.platform == "linux":
                put_back()
                send = signal.pidfd_send_signal
                stack.enter_context(replaced([(send, self._recorded(send))]))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over = True
        self._stack.close()

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Guard the calling thread, also where it is one of the harness: its user's code runs."""
        ident = threading.get_ident()
        was_exempt = ident in self.exempt
        self.exempt.discard(ident)
        try:
            yield
        finally:
            if was_exempt:
                self.exempt.add(ident)

    def _passes(self, signum: int) -> bool:
        if not signum or self._over or threading.get_ident() in self.exempt:
            return True
        return os.getpid() != self._owner and not self._mark.exists()

    def _before(self, event: str, whom: int, signum: int, frame: FrameType | None) -> None:
        """Record a signal that ``os.kill`` or ``os.killpg`` is about to send, or refuse it."""
        if self._passes(signum):
            return
        group = event == "os.killpg"
        recipient = (self._recipients.of_group if group else self._recipients.of_kill)(whom, signum)
        unheard = self._unheard(signum, recipient)
        self._note(clock.monotonic_ns(), signum, recipient, recipient.errno, unheard)
        then = self.after_signal()
        if not recipient.allowed:
            if then is not None:
                then()
            raise _refusal(signum, recipient)
        if then is not None and frame is not None:
            when_returned(frame, then)

    def _recorded(self, send: Callable[..., None]) -> Callable[..., None]:
        """``signal.pidfd_send_signal``, which raises no auditing event."""

        # with its names: pickled, it is the function of that name wherever it is read
        @functools.wraps(send)
        def pidfd_send_signal(pidfd: int, signum: int, *more: object) -> None:
            # a reference that somebody has kept is used when the trial is long over
            if self._passes(signum):
                send(pidfd, signum, *more)
                return
            recipient = self._recipients.of_pidfd(pidfd, int(signum))
            unheard = self._unheard(int(signum), recipient)
            at_ns = clock.monotonic_ns()
            failure: OSError | None = None
            if recipient.allowed:
                try:
                    send(pidfd, signum, *more)
                except OSError as error:
                    failure = error
            else:
                failure = _refusal(int(signum), recipient)
            number = None if failure is None else failure.errno
            self._note(at_ns, int(signum), recipient, number, unheard)
            then = self.after_signal()
            if then is not None:
                then()
            if failure is not None:
                raise failure

        return pidfd_send_signal

    def _unheard(self, signum: int, recipient: Addressed) -> Unheard | None:
        return self.why_unheard(signum) if recipient.has_vm else None

    def _note(
        self,
        at_ns: int,
        signum: int,
        recipient: Addressed,
        error: int | None,
        unheard: Unheard | None,
    ) -> None:
        forked = os.getpid() != self._owner
        actor = f"forked child {os.getpid()}" if forked else threading.current_thread().name
        sent = SentSignal(
            at_ns=at_ns,
            signum=signum,
            to=recipient.to,
            pid=recipient.pid,
            comm=recipient.comm,
            target=recipient.text,
            actor=actor,
            reached_vm=recipient.has_vm and error is None,
            refused=not recipient.allowed,
            errno=error,
            site=_caller(),
            held=self.held(),
            unheard=unheard,
        )
        if forked:
            self._forked.note(sent)
        else:
            self._keep(sent)

    def _keep(self, sent: SentSignal) -> None:
        self._sent.append(sent)
        self._history.record(
            "signal",
            sent.actor,
            sent.at_ns,
            signal=signal_name(sent.signum),
            to=sent.to,
            pid=sent.pid,
            comm=sent.comm,
            target=sent.target,
            refused=sent.refused,
            errno=sent.errno,
            held=list(sent.held),
            site=None if sent.site is None else str(sent.site),
        )


def _refusal(signum: int, recipient: Addressed) -> PermissionError:
    return PermissionError(
        errno.EPERM, f"gracekill refuses {signal_name(signum)} to {recipient.text}"
    )


def _caller() -> Frame | None:
    for frame in current_stack(threading.get_ident()):
        if not frame.file.startswith(_ON_THE_WAY) and not frame.file.endswith(_PSUTIL):
            return frame
    return None
