"""What a trial needs of the machine and of this process, tried before anything is started.

System calls are tried on this process itself, once: a seccomp filter, as old container runtimes
have it, refuses some that the kernel has. What other libraries have replaced is looked at each
time.
"""

from __future__ import annotations

import _thread
import os
import select
import signal
import sys
import threading
from functools import cache
from types import BuiltinFunctionType
from typing import TYPE_CHECKING

from pytest_gracekill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Libraries whose import hooks add code to what they import.
_INSTRUMENTING = ("typeguard", "beartype")

#: How threading starts a thread.
_STARTS = "_start_new_thread" if sys.version_info < (3, 13) else "_start_joinable_thread"

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37


def check(*, subreaper: bool = False) -> None:
    """Check that a trial can be run here.

    :param subreaper: it needs a process that adopts orphans.
    :raises UsageError: the machine refuses a system call, or has no usable /proc; or threads and
        descriptors are not the operating system's. It is no reason to skip the test: nothing would
        be judged, and the run would pass.
    """
    for name, what in _replaced():
        raise UsageError(
            f"{name} is {what}: a trial watches real threads and processes, and would hang or"
            " report what did not happen; run it in a process that is not monkey-patched",
            source="this process",
        )
    if (hook := _instrumented_by()) is not None:
        raise UsageError(
            f"{hook} checks the types of pytest_gracekill itself: a trial would be watched by code"
            " that was changed, and take the time of it for the routine's; name the packages that"
            " are to be checked, without this one",
            source="this process",
        )
    why = _refused() or (_subreaper_refused() if subreaper else None)
    if why is not None:
        raise UsageError(why, source="this machine")


def _replaced() -> Iterator[tuple[str, str]]:
    """Yield the names on which every trial depends that are another library's, and whose."""
    names = {
        "_thread.start_new_thread": _thread.start_new_thread,
        "_thread.allocate_lock": _thread.allocate_lock,
        f"threading.{_STARTS}": getattr(threading, _STARTS, None),
        "select.poll": getattr(select, "poll", None),
    }
    for name, found in names.items():
        if found is None:
            # eventlet removes what it does not replace
            yield name, "not there any more"
        elif not isinstance(found, BuiltinFunctionType):
            yield name, f"that of {getattr(found, '__module__', type(found).__name__)}"


def _instrumented_by() -> str | None:
    """Name the library whose import hook has changed a module of this package; None without one."""
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if name.startswith("pytest_gracekill.") and spec is not None:
            library = type(spec.loader).__module__.partition(".")[0]
            if library in _INSTRUMENTING:
                return library
    return None


@cache
def _refused() -> str | None:
    """Why no trial is possible on this machine; None where it is."""
    try:
        shown = os.readlink("/proc/self")  # noqa: PTH115 - a name is enough
        os.listdir("/proc/self/fd")  # noqa: PTH208 - as above
    except OSError as error:
        return f"/proc cannot be read ({os.strerror(error.errno or 0)}): a trial needs it"
    if shown != str(os.getpid()):
        return (
            f"/proc shows this process as {shown}, and its pid is {os.getpid()}: it is that of"
            " another pid namespace; mount one for this namespace (unshare --mount-proc)"
        )
    fd, call = -1, "pidfd_open"
    try:
        fd = os.pidfd_open(os.getpid())
        call = "pidfd_send_signal"
        signal.pidfd_send_signal(fd, 0)
    except OSError as error:
        return (
            f"{call}() is refused here ({os.strerror(error.errno or 0)}): a trial needs Linux 5.3,"
            " and no seccomp filter that forbids it, as older container runtimes have"
        )
    finally:
        if fd >= 0:
            os.close(fd)
    return None


@cache
def _subreaper_refused() -> str | None:
    """Why no process can adopt orphans; the state of this one is set to what it is."""
    import ctypes  # noqa: PLC0415 - milliseconds that only those trials should pay

    libc = ctypes.CDLL(None, use_errno=True)
    state = ctypes.c_int()
    if (
        libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(state), 0, 0, 0) == 0
        and libc.prctl(_PR_SET_CHILD_SUBREAPER, state.value, 0, 0, 0) == 0
    ):
        return None
    return (
        f"prctl(PR_SET_CHILD_SUBREAPER) is refused here ({os.strerror(ctypes.get_errno())}): an"
        " External command, and a VM that is a daemon, need a process that adopts orphans"
    )
