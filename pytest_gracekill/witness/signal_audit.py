"""Watch ``os.kill`` and ``os.killpg``, under whatever name they are called, by an audit hook.

Both raise an auditing event (PEP 578) before the signal is sent, and what the hook raises prevents
it. So does what starts processes, but for `multiprocessing` other than by fork. There is one hook a
process. It is installed at the first trial and cannot be removed; outside of trials it looks
whether a list is empty for each auditing event, of any kind, and returns. Not seen: signals by C
code, from subinterpreters and from other processes; a forked child has the hook, too.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from pytest_gracekill.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

if sys.platform != "win32":
    from posix import kill  # os.kill may be patched by the test

#: Called with the event's name, the pid or process group, the signal, and the frame of the caller,
#: None in a thread that C code has started on it. What it raises is raised by ``os.kill``, and no
#: signal is sent.
Watcher: TypeAlias = "Callable[[str, int, int, FrameType | None], None]"

#: Called with the event's name, its arguments and the frame of the caller when a process is about
#: to be started; it must not raise.
StartWatcher: TypeAlias = "Callable[[str, tuple[object, ...], FrameType], None]"

_STARTS = frozenset(("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"))

_watchers: list[Watcher] = []
_start_watchers: list[StartWatcher] = []
_lock = threading.Lock()
_installed = False


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if not _watchers:
        return
    if event not in ("os.kill", "os.killpg"):
        if event in _STARTS:
            for start_watcher in tuple(_start_watchers):
                start_watcher(event, arguments, sys._getframe(1))  # noqa: SLF001 - the caller's
        return
    match arguments:
        case (int(whom), int(signum)):
            for watcher in tuple(_watchers):
                watcher(event, whom, signum, sys._getframe().f_back)  # noqa: SLF001 - the caller's


def install() -> None:
    """Install the hook, unless it is there.

    :raises UnsupportedError: another audit hook of this process has refused it.
    """
    global _installed  # noqa: PLW0603 - a process has one, and cannot get rid of it
    with _lock:
        if _installed:
            return
        # each hook is told of the next one, and CPython drops that in silence when one of them
        # raises a RuntimeError
        seen: list[str] = []
        try:
            sys.addaudithook(_hook)
            with _watching(lambda event, *_: seen.append(event)):
                kill(os.getpid(), 0)
        except Exception as error:
            raise _refused(error) from error
        if not seen:
            raise _refused(None)
        _installed = True


def _refused(error: Exception | None) -> UnsupportedError:
    reason = "" if error is None else f" ({type(error).__name__}: {error})"
    return UnsupportedError(
        "an audit hook of this process, which was added before (sys.addaudithook), refuses the hook"
        f" by which a trial sees and guards signals{reason}: run the test without it",
        source="the process",
    )


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Have ``watcher`` called before each signal by ``os.kill`` or ``os.killpg``, in any thread."""
    install()
    with _watching(watcher):
        yield


@contextmanager
def starts_watched(watcher: StartWatcher) -> Iterator[None]:
    """Have ``watcher`` called before each start of a process, while signals are watched."""
    _start_watchers.append(watcher)
    try:
        yield
    finally:
        _start_watchers.remove(watcher)


@contextmanager
def _watching(watcher: Watcher) -> Iterator[None]:
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)
