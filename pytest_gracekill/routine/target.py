"""The process of one incarnation, so held that no signal can reach another one.

On Linux a pidfd: opened once, it stays with this process even when the pid is used again, and it
becomes readable when the whole process has ended, reaped or not. Elsewhere, and on kernels without
it, a ``psutil.Process``, which compares the start time before each signal. Errors of both are
OSErrors with an errno; ESRCH says that the process is gone and reaped.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Protocol

from pytest_gracekill import clock
from pytest_gracekill.routine.incarnation import start_time

if TYPE_CHECKING:
    import psutil

    from pytest_gracekill.routine.incarnation import Incarnation

SIGTERM = int(signal.SIGTERM)
#: Windows has no number for it; psutil's ``kill`` is the way there.
SIGKILL = int(getattr(signal, "SIGKILL", 9))

#: poll() takes milliseconds as a C int
_LONGEST_POLL = 2_000_000.0


class Target(Protocol):
    """One process: send it a signal, ask or wait whether it has ended."""

    def send(self, signum: int) -> None:
        """Send it; 0 only asks. A zombie takes it in silence, as with ``kill(2)``."""

    def ended(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for its end, with a last look; a zombie has ended."""

    def close(self) -> None:
        """Let go of it."""


def open_target(incarnation: Incarnation) -> Target:
    """Take hold of the incarnation's process; ProcessLookupError when that one is gone."""
    target = _open(incarnation.pid)
    # looked at after it was opened: had the pid changed hands before that, it shows now
    if incarnation.started is not None and start_time(incarnation.pid) != incarnation.started:
        target.close()
        raise ProcessLookupError(
            errno.ESRCH, f"pid {incarnation.pid} is not {incarnation} any longer"
        )
    return target


def _open(pid: int) -> Target:
    if sys.platform == "linux" and hasattr(os, "pidfd_open"):
        try:
            return PidfdTarget(os.pidfd_open(pid))
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
    return PsutilTarget(pid)


class PidfdTarget:
    """The process behind a pidfd, which it owns."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def send(self, signum: int) -> None:
        if sys.platform == "linux":
            # looked up at each call: whoever records signals replaces it in its module
            signal.pidfd_send_signal(self._fd, signum)

    def ended(self, timeout: float) -> bool:
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        deadline = clock.monotonic() + timeout
        remaining = timeout
        while not poller.poll(max(min(remaining, _LONGEST_POLL), 0.0) * 1000):
            remaining = deadline - clock.monotonic()
            if remaining <= 0:
                return bool(poller.poll(0))
        return True

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


class PsutilTarget:
    """The process as psutil knows it, by pid and start time."""

    __slots__ = ("_process",)

    #: psutil's own ``wait`` would reap a child, and with it the status that its owner waits for
    _PAUSE = 0.01

    def __init__(self, pid: int) -> None:
        import psutil  # noqa: PLC0415 - costs milliseconds, and is not needed where pidfds are

        try:
            self._process: psutil.Process = psutil.Process(pid)
        except psutil.Error as error:
            raise _as_os_error(error) from error

    def send(self, signum: int) -> None:
        import psutil  # noqa: PLC0415 - as above

        try:
            if signum == 0:
                if not self._process.is_running():
                    raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
            elif signum == SIGKILL:
                self._process.kill()
            else:
                self._process.send_signal(signum)
        except psutil.Error as error:
            raise _as_os_error(error) from error

    def ended(self, timeout: float) -> bool:
        deadline = clock.monotonic() + timeout
        while not self._ended_now():
            remaining = deadline - clock.monotonic()
            if remaining <= 0:
                return False
            time.sleep(min(self._PAUSE, remaining))
        return True

    def _ended_now(self) -> bool:
        import psutil  # noqa: PLC0415 - as above

        try:
            return not self._process.is_running() or (
                self._process.status() == psutil.STATUS_ZOMBIE
            )
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            return True

    def close(self) -> None:
        """Nothing is held open."""


def _as_os_error(error: psutil.Error) -> OSError:
    import psutil  # noqa: PLC0415 - as above

    number = errno.ESRCH if isinstance(error, psutil.NoSuchProcess) else errno.EPERM
    return OSError(number, os.strerror(number))
