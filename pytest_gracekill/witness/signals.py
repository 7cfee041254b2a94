"""The signal recorder: every signal that the process sends during a trial, seen before it is sent.

``os.kill``, ``os.killpg`` and ``signal.pidfd_send_signal`` are replaced for the length of the
trial, in their modules and wherever a module has bound them by name; ``subprocess`` and ``psutil``
go through them. Signals to pid 0, -1, our own group or process, or a process without the trial's
mark are refused with EPERM and recorded. Signals from C code or from other processes are not seen
here: the journal of the VM has those that reach it.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pytest_gracekill import clock
from pytest_gracekill.witness.bindings import replaced
from pytest_gracekill.witness.history import Frame, current_stack
from pytest_gracekill.witness.recipients import Addressed, Known, Recipient, Recipients

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from pytest_gracekill.witness.history import History

#: Modules whose frames are on the way from a caller to the signal, and tell nothing.
_ON_THE_WAY = ("subprocess.py", "psutil/__init__.py", "process.py", "popen_fork.py", "signals.py")


#: How the name of a process begins that is another run of the domain.
OTHER_RUN = "the VM that was started meanwhile"


def signal_name(signum: int) -> str:
    """``SIGTERM`` for 15; the number where the platform has no name for it."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentSignal:
    """One signal that the process sent, or tried to: when, which, to which process, from where.

    ``at_ns`` is the moment before the call. ``to`` is the kind of the recipient, ``pid`` its number
    (of a group, the group's) and ``comm`` the short name of its program, ``None`` where there is no
    single process; ``target`` is all of that as people read it. ``refused``: the recipient was a
    stranger, and the signal was not sent. ``reached_vm``: it was sent to the VM, alone or with its
    group, without an error, and the VM had not ended. ``held``: the traced locks that the sender
    held.
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
        #: Called in the sender's thread after each signal.
        self.on_signal: Callable[[], None] = lambda: None
        #: The names of the locks that the calling thread holds.
        self.held: Callable[[], tuple[str, ...]] = tuple
        self._over = False
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        pairs: list[tuple[object, object]] = []
        if hasattr(os, "kill"):
            pairs.append((os.kill, self._wrap(os.kill, self._recipients.of_kill)))
        if sys.platform == "linux":
            pairs.append((os.killpg, self._wrap(os.killpg, self._recipients.of_group)))
            send = signal.pidfd_send_signal
            pairs.append((send, self._wrap(send, self._recipients.of_pidfd)))
        self._stack.enter_context(replaced(pairs))
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

    def _wrap(
        self,
        send: Callable[..., None],
        recipient_of: Callable[[int, int], Addressed],
    ) -> Callable[..., None]:
        def recorded(where: int, signum: int, *more: object) -> None:
            # a reference that somebody has kept is used when the trial is long over
            if self._over or signum == 0 or threading.get_ident() in self.exempt:
                send(where, signum, *more)
                return
            recipient = recipient_of(where, int(signum))
            at_ns = clock.monotonic_ns()
            failure: OSError | None = None
            if recipient.allowed:
                try:
                    send(where, signum, *more)
                except OSError as error:
                    failure = error
            else:
                failure = PermissionError(
                    errno.EPERM, f"gracekill refuses {signal_name(signum)} to {recipient}"
                )
            self._note(at_ns, int(signum), recipient, failure)
            self.on_signal()
            if failure is not None:
                raise failure

        return recorded

    def _note(self, at_ns: int, signum: int, recipient: Addressed, failure: OSError | None) -> None:
        actor = threading.current_thread().name
        sent = SentSignal(
            at_ns=at_ns,
            signum=signum,
            to=recipient.to,
            pid=recipient.pid,
            comm=recipient.comm,
            target=recipient.text,
            actor=actor,
            reached_vm=recipient.has_vm and failure is None,
            refused=not recipient.allowed,
            errno=None if failure is None else failure.errno,
            site=_caller(),
            held=self.held(),
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


def _caller() -> Frame | None:
    for frame in current_stack(threading.get_ident()):
        if not frame.file.endswith(_ON_THE_WAY):
            return frame
    return None
