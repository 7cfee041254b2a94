"""The signal recorder: every signal that the process sends during a trial, seen before it is sent.

``os.kill`` and ``os.killpg`` are watched by an audit hook (`signal_audit`), under whatever name
they are called; ``subprocess``, ``multiprocessing`` and ``psutil`` call them.
``signal.pidfd_send_signal`` raises no auditing event: it is replaced for the length of the trial
where a module has it by name, and not seen in a class, a closure, a default argument or a partial.
Signals to pid 0, -1, our own group or process, or to a process without the trial's mark that was
there before are refused with EPERM and recorded. A forked child is guarded, too, and its signals
are not recorded. Signals from C code or from other processes are not seen here: the journal of the
VM has those that reach it.

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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pytest_gracekill import clock
from pytest_gracekill.data.requests import signal_name
from pytest_gracekill.witness import signal_audit
from pytest_gracekill.witness.bindings import put_back, replaced
from pytest_gracekill.witness.history import Frame, current_stack
from pytest_gracekill.witness.recipients import Addressed, Known, Recipient, Recipients
from pytest_gracekill.witness.returning import when_returned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType

    from pytest_gracekill.data.requests import Unheard
    from pytest_gracekill.witness.history import History

#: Files between a caller and the signal, which tell nothing about where it was sent.
_STDLIB = Path(os.__file__).parent
_ON_THE_WAY = tuple(str(_STDLIB / name) for name in ("subprocess.py", "multiprocessing", "asyncio"))
_PSUTIL = str(Path("psutil", "__init__.py"))

#: How the name of a process begins that is another run of the domain.
OTHER_RUN = "the VM that was started meanwhile"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentSignal:
    """One signal that the process sent, or tried to: when, which, to which process, from where.

    ``at_ns`` is the moment before the call. ``to`` is the kind of the recipient, ``pid`` its number
    (of a group, the group's) and ``comm`` the short name of its program, ``None`` where there is no
    single process; ``target`` is all of that as people read it. ``refused``: the recipient was a
    stranger, and the signal was not sent. ``reached_vm``: it was sent to the VM, alone or with its
    group, without an error, and the VM had not ended. ``held``: the traced locks that the sender
    held. ``unheard``: why the VM could not act on a stop signal at that moment.
    """

    at_ns: int
    signum: int
    to: Recipient
    pid: int | None
    comm: str | None
    target: str
    actor: str
    reached_vm: bool
    refused: bool
    errno: int | None
    site: Frame | None
    held: tuple[str, ...] = ()
    unheard: Unheard | None = None

    @property
    def other_run(self) -> bool:
        """Whether it went to another run of the same domain."""
        return self.to == "other run"

    @property
    def whom(self) -> str:
        """The recipient in short: ``4711 (sh)``, or a group, or a pid that no process has."""
        return self.target if self.pid is None or self.comm is None else f"{self.pid} ({self.comm})"

    def __str__(self) -> str:
        state = " refused" if self.refused else f" errno {self.errno}" if self.errno else ""
        return f"{signal_name(self.signum)} to {self.target} by {self.actor}{state}"


class SignalRecorder:
    """Records and guards; a context manager. ``whose(pid)`` says what a process is to the trial.

    It answers ``None`` for a stranger.
    """

    def __init__(self, whose: Callable[[int], Known | None], history: History) -> None:
        self.sent: list[SentSignal] = []
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
        return not signum or self._over or threading.get_ident() in self.exempt

    def _before(self, event: str, whom: int, signum: int, frame: FrameType) -> None:
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
        if then is not None:
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
        if os.getpid() != self._owner:
            return  # a forked child, which has a copy of the list
        actor = threading.current_thread().name
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
        self.sent.append(sent)
        self._history.record(
            "signal",
            actor,
            at_ns,
            signal=signal_name(signum),
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
