"""How and when the fake ended, from whoever knows it best.

The fake's own last journal line is the ground truth, since a routine may have eaten the status.
A fake that was killed has no such line: then its reaper's word, our own look at our own child
(which leaves the status for the routine), or what the kernel keeps with the pidfd.
"""

from __future__ import annotations

import itertools
import os
import select
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gracekill import clock

if TYPE_CHECKING:
    from .journal import Journal
    from .launch import Launched

PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, struct pidfd_info), Linux 6.13
PIDFD_INFO_EXIT = 1 << 3  # Linux 6.15; the status of a process that has been reaped
_REAPED_BY_INIT = 0.2  # seconds; older kernels do not tell at all
_NEWS = 2.0  # seconds that a reaper has to report
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a process ended: by a status or by a signal; both None where nobody can know."""

    code: int | None
    signal: int | None
    at: float

    def __str__(self) -> str:
        if self.signal is not None:
            return f"ended by {_name(self.signal)} at {self.at:.6f}"
        how = "ended in an unknown way" if self.code is None else f"exit {self.code}"
        return f"{how} at {self.at:.6f}"


class Ending:
    """Watches one pidfd from a thread of its own, and knows the end when it has come."""

    def __init__(self, launched: Launched, journal: Journal) -> None:
        self._pidfd = launched.pidfd
        self._reaper = launched.first_pidfd
        self._popen = launched.popen
        self._vm_is_ours = launched.popen is not None and launched.popen.pid == launched.pid
        self._news = launched.prepared.ready  # a reaper's word comes by this FIFO
        self._heard = launched.heard
        self._journal = journal
        self._seen_at = 0.0
        self._status: tuple[int | None, int | None] = (None, None)
        self._done = threading.Event()
        self._exit: Exit | None = None
        self._thread = threading.Thread(
            target=self._watch, name=f"gracekill:exit-{next(_numbers)}", daemon=True
        )
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._exit is None and not _readable(self._pidfd, 0)

    @property
    def exit(self) -> Exit | None:
        """The end of the process, or None while it lives."""
        if self._exit is None and _readable(self._pidfd, 0):
            if not self._done.wait(_NEWS + 5):
                raise TimeoutError("the thread that watches the fake's pidfd saw no exit in 7 s")
            self._exit = self._conclude()
        return self._exit

    @property
    def gone_at(self) -> float | None:
        """When the kernel told of the end; on a busy machine later than the last journal line."""
        return self._seen_at if self._done.is_set() else None

    def wait(self, timeout: float | None) -> Exit | None:
        """Wait for the end; None when it has not come in time."""
        if self._exit is None:
            _readable(self._pidfd, timeout)
        return self.exit

    def join(self) -> None:
        """End the thread; the process has to be dead."""
        self._thread.join(_NEWS + 5)

    def _watch(self) -> None:
        _readable(self._pidfd, None)
        self._seen_at = clock.monotonic()
        self._status = self._look()
        self._done.set()

    def _look(self) -> tuple[int | None, int | None]:
        """Return (code, signal) as far as the kernel or a reaper tells."""
        try:
            # leaves the zombie, and so the status, to whoever waits for it
            seen = self._status_of_ours()
        except ChildProcessError:
            seen = None  # not our child, or reaped already
        if seen is not None:
            by_status = seen.si_code == os.CLD_EXITED
            return (seen.si_status, None) if by_status else (None, seen.si_status)
        told = self._hear() or _info(self._pidfd)
        code = 0 if self._popen is None or not self._vm_is_ours else self._popen.returncode or 0
        if told is None and code < 0:
            # not a status of 0: Popen says that, too, when somebody else has reaped
            told = None, -code
        return told or (None, None)

    def _status_of_ours(self) -> os.waitid_result | None:
        """The zombie's status, left where it is; a tracer of it has to have seen it before us."""
        deadline = clock.monotonic() + _NEWS
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while (seen := os.waitid(os.P_PIDFD, self._pidfd, options)) is None:
            if clock.monotonic() > deadline:
                break
            time.sleep(0.001)
        return seen

    def _hear(self) -> tuple[int | None, int | None] | None:
        """Return what the reaper or wrapper says, if there is one that lives to say it."""
        if self._vm_is_ours or self._popen is None:
            return None
        deadline = clock.monotonic() + _NEWS
        poll = select.poll()
        poll.register(self._news, select.POLLIN)
        poll.register(self._reaper, select.POLLIN)
        while True:
            for line in self._heard.split(b"\n")[:-1]:
                word, _, value = line.partition(b" ")
                if word == b"code":
                    return int(value), None
                if word == b"signal":
                    return None, int(value)
            ready = dict(poll.poll(max(0.0, deadline - clock.monotonic()) * 1000))
            if self._news not in ready:
                return None  # it has ended without a word, or says nothing
            self._heard += os.read(self._news, 4096)

    def _conclude(self) -> Exit:
        last = self._journal.last("exit")
        if last is not None:
            return Exit(code=last.number("code"), signal=None, at=last.at_ns / 1e9)
        code, by_signal = self._status
        return Exit(code=code, signal=by_signal, at=self._seen_at)


def _readable(fd: int, timeout: float | None) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout is None else max(0.0, timeout) * 1000))


def _info(pidfd: int) -> tuple[int | None, int | None] | None:
    """Ask the kernel for the status that it keeps with the pidfd of a reaped process."""
    poll = select.poll()
    poll.register(pidfd, 0)  # POLLHUP: it has been reaped, by init or whoever was left to do it
    poll.poll(_REAPED_BY_INIT * 1000)
    import fcntl  # noqa: PLC0415  # not there on Windows, where this module is imported, too

    request = bytearray(64)
    request[0:8] = PIDFD_INFO_EXIT.to_bytes(8, "little")
    try:
        fcntl.ioctl(pidfd, PIDFD_GET_INFO, request)
    except OSError:
        return None  # an older kernel, or it has not been reaped yet
    if not int.from_bytes(request[0:8], "little") & PIDFD_INFO_EXIT:
        return None
    code = os.waitstatus_to_exitcode(int.from_bytes(request[60:64], "little"))
    return (code, None) if code >= 0 else (None, -code)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
