"""The keeper's end of the mark: who holds it, and how they are all ended.

Every process of a fake has the FIFO open for reading (`program/lifeline.py`); the keeper alone
has it open for writing, close-on-exec, and closed in its own forked children. When that end
closes, the kernel SIGKILLs every holder, stopped ones too. `poll` on it says when the last
holder has gone.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
import weakref
from pathlib import Path

from pytest_gracekill import clock

_live: weakref.WeakSet[Mark] = weakref.WeakSet()


class Mark:
    """A FIFO of our own, its write end held by this process."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path, 0o600)
        self.path = path
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            # a write end can be opened without waiting only while there is a reader
            self._fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        finally:
            os.close(reading)
        self._node = _node(os.fstat(self._fd))
        self.born = time.clock_gettime(time.CLOCK_BOOTTIME) - 1.0
        _live.add(self)

    def fileno(self) -> int:
        return self._fd

    def holders(self) -> list[int]:
        """Return the pids of all processes that hold the mark now."""
        if self._fd >= 0 and self.gone(0):
            return []
        return [pid for pid in processes_since(self.born) if self.holds(pid)]

    def holds(self, pid: int) -> bool:
        """Say whether this process has the FIFO open for reading.

        Only for reading: a child of the keeper between fork and exec has the write end.
        """
        if _has(f"/proc/{pid}/fd", self.path.name, self._node):
            return True
        # a process without its main thread has its files still, but not there
        try:
            threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208  # names are enough
        except OSError:
            return False
        return any(
            _has(f"/proc/{pid}/task/{thread}/fd", self.path.name, self._node)
            for thread in threads
            if thread != str(pid)
        )

    def gone(self, timeout: float) -> bool:
        """Wait until no process holds the mark; say whether that is so."""
        poll = select.poll()
        poll.register(self._fd, 0)  # POLLERR, which is always reported: no reader is left
        return bool(poll.poll(max(0.0, timeout) * 1000))

    def strike(self, pid: int) -> int:
        """SIGKILL a holder, and no other process that may have got its pid.

        Return a pidfd by which to wait for its end, or -1 when it had gone.
        """
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return -1
        # looked at after the pidfd was opened: what has the mark now is what the pidfd means
        if not self.holds(pid):
            os.close(pidfd)
            return -1
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return pidfd

    def strike_all(self, timeout: float) -> None:
        """SIGKILL every holder by its pidfd, and wait for their ends."""
        deadline = clock.monotonic() + timeout
        struck = [fd for pid in self.holders() if (fd := self.strike(pid)) >= 0]
        for pidfd in struck:
            await_end(pidfd, deadline - clock.monotonic())
            os.close(pidfd)

    def sweep(self) -> None:
        """Let the kernel SIGKILL every holder, those too that nobody has looked up."""
        if self._fd >= 0:
            with contextlib.suppress(BrokenPipeError, BlockingIOError):
                os.write(self._fd, b"!")

    def release(self) -> None:
        """Close the write end: holders that are left end by that."""
        _live.discard(self)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def await_end(pidfd: int, timeout: float) -> bool:
    """Wait for the end of a process; reap it if it is ours, as orphans of pid 1 are."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    ended = bool(poll.poll(max(0.0, timeout) * 1000))
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    return ended


def _node(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _has(folder: str, name: str, node: tuple[int, int]) -> bool:
    try:
        descriptors = os.listdir(folder)  # noqa: PTH208  # thousands of these: pathlib is slow
    except OSError:
        return False  # ended, or not ours to look at
    for descriptor in descriptors:
        link = f"{folder}/{descriptor}"
        try:
            # by name first: a stat of just any file can hang on a dead network
            target = os.readlink(link).removesuffix(" (deleted)")  # noqa: PTH115  # as above
            if not target.endswith("/" + name) or _node(os.stat(link)) != node:  # noqa: PTH116
                continue
            if os.lstat(link).st_mode & 0o400:  # open for reading
                return True
        except OSError:
            continue
    return False


def processes_since(born: float) -> list[int]:
    """Return the pids of processes that started after `born` (CLOCK_BOOTTIME seconds).

    Older ones cannot have the mark; most of a busy machine's processes are older.
    """
    ticks = os.sysconf("SC_CLK_TCK")
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208  # names are enough
        if name.isdecimal() and int(name) != os.getpid():
            try:
                started = int(stat_fields(int(name))[19]) / ticks
            except OSError:
                continue
            if started >= born:
                found.append(int(name))
    return found


def state(pid: int) -> str:
    """Return the letter that /proc shows for a process' main thread; "" when there is none."""
    try:
        return stat_fields(pid)[0]
    except OSError:
        return ""


def parent_of(pid: int) -> tuple[int, str]:
    """Return the pid of a process' parent, and its name for people: ``pid 4711 (sh)``."""
    try:
        parent = int(stat_fields(pid)[1])
        name = Path(f"/proc/{parent}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return 0, "a process that has ended"
    return parent, f"pid {parent} ({name})"


def thread_states(pid: int) -> set[str]:
    """Return these letters of all its threads: others may go on when the main one has ended."""
    states = set()
    with contextlib.suppress(OSError):  # the process has ended
        for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
            with contextlib.suppress(OSError):  # this thread has
                states.add(_fields(stat)[0])
    return states


def stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; the name before may hold anything."""
    return _fields(Path(f"/proc/{pid}/stat"))


def _fields(stat: Path) -> list[str]:
    return stat.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()


def _forked() -> None:
    """In a forked child of the keeper: it must not keep fakes alive."""
    for mark in list(_live):
        mark.release()


if sys.platform == "linux":
    os.register_at_fork(after_in_child=_forked)
