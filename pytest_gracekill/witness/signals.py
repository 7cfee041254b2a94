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
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pytest_gracekill import clock
from pytest_gracekill.witness.bindings import replaced
from pytest_gracekill.witness.history import Frame, current_stack

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
    """One signal that the process sent, or tried to: when, which, to whom, from where.

    ``at_ns`` is the moment before the call. ``refused``: the target was a stranger, and the signal
    was not sent. ``reached_vm``: it was sent to the VM, alone or with its group, without an error.
    ``other_run``: it went to another run of the same domain. ``held``: the traced locks that the
    sender held.
    """

    at_ns: int
    signum: int
    target: str
    actor: str
    reached_vm: bool
    refused: bool
    errno: int | None
    site: Frame | None
    other_run: bool = False
    held: tuple[str, ...] = ()

    def __str__(self) -> str:
        state = " refused" if self.refused else f" errno {self.errno}" if self.errno else ""
        return f"{signal_name(self.signum)} to {self.target} by {self.actor}{state}"


class SignalRecorder:
    """Records and guards; a context manager. ``whose(pid)`` says what a process is to the trial.

    It answers ``"the VM"``, another name such as ``"helper 123"``, or ``None`` for a stranger.
    """

    def __init__(self, whose: Callable[[int], str | None], history: History) -> None:
        self.sent: list[SentSignal] = []
        #: Threads of the harness itself, by ident: their signals pass and are not recorded.
        self.exempt: set[int] = set()
        self._whose = whose
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
            pairs.append((os.kill, self._wrap(os.kill, self._target_of_kill)))
        if sys.platform == "linux":
            pairs.append((os.killpg, self._wrap(os.killpg, self._target_of_group)))
            send = signal.pidfd_send_signal
            pairs.append((send, self._wrap(send, self._target_of_pidfd)))
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
        target_of: Callable[[int, int], tuple[str, bool, bool]],
    ) -> Callable[..., None]:
        def recorded(where: int, signum: int, *more: object) -> None:
            # a reference that somebody has kept is used when the trial is long over
            if self._over or signum == 0 or threading.get_ident() in self.exempt:
                send(where, signum, *more)
                return
            target, is_vm, allowed = target_of(where, int(signum))
            at_ns = clock.monotonic_ns()
            failure: OSError | None = None
            if allowed:
                try:
                    send(where, signum, *more)
                except OSError as error:
                    failure = error
            else:
                failure = PermissionError(
                    errno.EPERM, f"gracekill refuses {signal_name(signum)} to {target}"
                )
            self._note(at_ns, int(signum), target, is_vm=is_vm, allowed=allowed, failure=failure)
            self.on_signal()
            if failure is not None:
                raise failure

        return recorded

    def _note(
        self,
        at_ns: int,
        signum: int,
        target: str,
        *,
        is_vm: bool,
        allowed: bool,
        failure: OSError | None,
    ) -> None:
        actor = threading.current_thread().name
        sent = SentSignal(
            at_ns=at_ns,
            signum=signum,
            target=target,
            actor=actor,
            reached_vm=is_vm and failure is None,
            refused=not allowed,
            errno=None if failure is None else failure.errno,
            site=_caller(),
            other_run=target.startswith(OTHER_RUN),
            held=self.held(),
        )
        self.sent.append(sent)
        self._history.record(
            "signal",
            actor,
            at_ns,
            signal=signal_name(signum),
            target=target,
            refused=not allowed,
            errno=sent.errno,
            held=list(sent.held),
            site=None if sent.site is None else str(sent.site),
        )

    def _target_of_kill(self, pid: int, signum: int) -> tuple[str, bool, bool]:
        if pid < -1:
            return self._target_of_group(-pid, signum)
        if pid in (0, -1):
            name = "our own process group" if pid == 0 else "every process"
            return f"pid {pid} ({name})", False, False
        if pid == os.getpid():
            # a program may signal itself where it has a handler for that
            return "our own process", False, callable(signal.getsignal(signum))
        whose = self._whose(pid)
        if whose is None:
            # where nobody has this pid, the kernel says so better than we do
            return f"a stranger (pid {pid})", False, _takes_no_signal(pid)
        return whose, whose == "the VM", True

    def _target_of_group(self, group: int, _signum: int) -> tuple[str, bool, bool]:
        if group in (0, os.getpgrp()):
            return "our own process group", False, False
        members = list(_members(group))
        strangers = [
            pid for pid in members if self._whose(pid) is None and not _takes_no_signal(pid)
        ]
        if strangers:
            return f"process group {group} with strangers ({strangers})", False, False
        has_vm = any(self._whose(pid) == "the VM" for pid in members)
        return f"process group {group}", has_vm, True

    def _target_of_pidfd(self, fd: int, signum: int) -> tuple[str, bool, bool]:
        pid = pid_of(fd)
        if pid is None or pid <= 0:
            # no process, or one that is gone: the kernel answers EBADF or ESRCH
            return f"pidfd {fd}", False, True
        return self._target_of_kill(pid, signum)


def _takes_no_signal(pid: int) -> bool:
    """Nobody has this pid, or a zombie has, such as a helper that the VM has not reaped.

    A zombie has let go of the mark by which it could be known.
    """
    proc = Path(f"/proc/{pid}")
    try:
        state = (proc / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2]
        # a leader that has ended looks the same while other threads of its process go on
        return state.split()[0] == "Z" and len(list((proc / "task").iterdir())) == 1
    except OSError:
        return True


def _members(group: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.getpgid(int(entry.name)) == group:
                yield int(entry.name)
        except ProcessLookupError:
            continue


def pid_of(pidfd: int) -> int | None:
    """The process behind a pidfd: -1 when it has been reaped, None when this is no pidfd."""
    try:
        lines = Path(f"/proc/self/fdinfo/{pidfd}").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("Pid:"):
            return int(line.split()[1])
    return None


def _caller() -> Frame | None:
    for frame in current_stack(threading.get_ident()):
        if not frame.file.endswith(_ON_THE_WAY):
            return frame
    return None
