"""Look up which process a signal is for, before it is sent, and what it is to the trial.

Everything is read from /proc and by signal 0, so that it works in a forked child, too, which may
have closed its descriptors. Between the look and the signal a process may end; a verdict goes by
the journal and the exit status of the VM then.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

if sys.platform != "win32":
    from posix import kill  # os.kill may be patched by the test

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: What a signal was sent to. ``group``: a process group, with the VM in it or not. ``nobody``: no
#: process has the pid, or one that has ended and was not reaped. ``itself``: the sending process.
Recipient = Literal[
    "vm",
    "wrapper",
    "helper",
    "routine's process",
    "other run",
    "group",
    "itself",
    "everybody",
    "stranger",
    "nobody",
]


class Known(NamedTuple):
    """What a process is to a trial, and its name in texts."""

    to: Recipient
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressed:
    """The recipient of one signal.

    ``pid`` is its number, of a group the group's; ``comm`` the short name of its program, None
    where there is no single process. ``has_vm``: it is the VM, or a group with the VM in it, and
    the VM has not ended. ``allowed``: it is no stranger. ``errno`` is the error that the kernel
    answers, None where it takes the signal.
    """

    to: Recipient
    pid: int | None
    text: str
    comm: str | None = None
    has_vm: bool = False
    allowed: bool = True
    errno: int | None = None

    def __str__(self) -> str:
        return self.text


class Recipients:
    """Looks recipients up. ``whose(pid)`` says what a live process is; None for a stranger."""

    def __init__(self, whose: Callable[[int], Known | None]) -> None:
        self._whose = whose
        self._owner, self._owners_group = os.getpid(), os.getpgrp()

    def of_kill(self, pid: int, signum: int) -> Addressed:
        """The recipient of ``os.kill(pid, signum)``."""
        if pid < -1:
            return self.of_group(-pid, signum)
        if pid == -1:
            text = "pid -1 (every process)"
            return Addressed(to="everybody", pid=None, text=text, allowed=False, errno=errno.EPERM)
        if pid == 0:
            return self.of_group(0, signum, "pid 0 (our own process group)")
        return self._of_process(_leader(pid), signum)

    def _of_process(self, pid: int, signum: int) -> Addressed:
        if pid in (self._owner, os.getpid()):
            return _itself(pid, signum)
        comm = _comm(pid)
        if takes_no_signal(pid):
            return _nobody(pid, comm)
        known = self._whose(pid)
        if known is None and takes_no_signal(pid):
            return _nobody(pid, comm)  # it has ended just now
        if known is None:
            text = f"a stranger (pid {pid})"
            return Addressed(
                to="stranger", pid=pid, comm=comm, text=text, allowed=False, errno=errno.EPERM
            )
        return Addressed(
            to=known.to,
            pid=pid,
            comm=comm,
            text=known.name,
            has_vm=known.to == "vm",
            errno=_answer(pid, signum),
        )

    def of_group(self, group: int, signum: int, text: str | None = None) -> Addressed:
        """The recipient of ``os.killpg(group, signum)``."""
        group = group or os.getpgrp()
        ours = (
            {self._owners_group, os.getpgrp()}
            if os.getpid() == self._owner
            else {self._owners_group}
        )
        if group in ours:
            text = text or "our own process group"
            return Addressed(to="group", pid=group, text=text, allowed=False, errno=errno.EPERM)
        text = f"process group {group}"
        members = list(_members(group))
        live = [pid for pid in members if pid != os.getpid() and not takes_no_signal(pid)]
        if not live and os.getpid() not in members:
            gone = errno.ESRCH if not members else None
            return Addressed(to="nobody", pid=group, text=f"{text}, which has ended", errno=gone)
        known = {pid: self._whose(pid) for pid in live}
        strangers = [pid for pid in live if known[pid] is None and not takes_no_signal(pid)]
        if strangers:
            return Addressed(
                to="stranger",
                pid=group,
                text=f"{text} with strangers ({strangers})",
                allowed=False,
                errno=errno.EPERM,
            )
        has_vm = any(each is not None and each.to == "vm" for each in known.values())
        return Addressed(
            to="group", pid=group, text=text, has_vm=has_vm, errno=_answer(-group, signum)
        )

    def of_pidfd(self, fd: int, signum: int) -> Addressed:
        """The recipient of ``signal.pidfd_send_signal(fd, signum)``."""
        pid = pid_of(fd)
        if pid is None or pid <= 0:
            # no pidfd, or one whose process was reaped
            gone = errno.EBADF if pid is None else errno.ESRCH
            return Addressed(to="nobody", pid=None, text=f"pidfd {fd}", errno=gone)
        return self.of_kill(pid, signum)


def takes_no_signal(pid: int) -> bool:
    """Say whether nobody has this pid, or a zombie has, such as a helper that was not reaped yet.

    A zombie has let go of the mark by which it could be known.
    """
    proc = Path(f"/proc/{pid}")
    try:
        state = (proc / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2]
        # a leader that has ended looks the same while other threads of its process go on
        return state.split()[0] in ("Z", "X") and len(list((proc / "task").iterdir())) == 1
    except OSError:
        return True


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


def _itself(pid: int, signum: int) -> Addressed:
    # a program may signal itself where it has a handler for that
    exists = signum in signal.valid_signals()
    allowed = not exists or callable(signal.getsignal(signum))
    answer = None if allowed else errno.EPERM
    return Addressed(
        to="itself",
        pid=pid,
        comm=_comm(pid),
        text="our own process",
        allowed=allowed,
        errno=answer if exists else errno.EINVAL,
    )


def _nobody(pid: int, comm: str | None) -> Addressed:
    exists = Path(f"/proc/{pid}").exists()
    text = f"pid {pid} ({comm}), which has ended" if exists and comm else f"pid {pid} (no process)"
    return Addressed(
        to="nobody", pid=pid, comm=comm, text=text, errno=None if exists else errno.ESRCH
    )


def _answer(pid: int, signum: int) -> int | None:
    """The error that the kernel answers to a signal: what it says of signal 0 now."""
    if signum not in signal.valid_signals():
        return errno.EINVAL
    try:
        kill(pid, 0)
    except OSError as error:
        return error.errno
    return None


def _leader(pid: int) -> int:
    """The process that a thread's number stands for: `kill` takes both."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text("utf-8", "replace").splitlines():
            if line.startswith("Tgid:"):
                return int(line.split()[1])
    except OSError:
        pass  # nobody has it
    return pid


def _comm(pid: int) -> str | None:
    """The short name of a process' program, fit for a terminal; None when nobody has the pid."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").removesuffix("\n")
    except OSError:
        return None
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _members(group: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.getpgid(int(entry.name)) == group:
                yield int(entry.name)
        except ProcessLookupError:
            continue
