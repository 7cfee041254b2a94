"""Real locks that the code under test takes: seen in a few schedules, however they are reached.

A real lock that is taken and released between two operations never blocks anybody here, and its
part in a deadlock would not be seen. What the standard library and installed packages do with locks
of their own is their business.
"""

from __future__ import annotations

import functools
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gracekill.witness.sites import Frame

if TYPE_CHECKING:
    from types import FrameType

_KINDS = (type(threading.Lock()), type(threading.RLock()))
_CALLS = frozenset(("acquire", "__enter__", "__exit__", "release"))


@functools.cache
def installed() -> tuple[str, ...]:
    """Where the standard library and installed packages are."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple(dict.fromkeys(sysconfig.get_path(name) for name in names))


class RealLocks:
    """A profile function; ``seen`` is where the first real lock was used."""

    def __init__(self) -> None:
        self.seen: Frame | None = None
        self._not_theirs = (*installed(), str(Path(__file__).parents[1]), "<")

    def __call__(self, frame: FrameType, event: str, called: object) -> None:
        if event != "c_call" or self.seen is not None:
            return
        if getattr(called, "__name__", "") not in _CALLS:
            return
        file = frame.f_code.co_filename
        if not isinstance(getattr(called, "__self__", None), _KINDS):
            return
        if file.startswith(self._not_theirs):
            return
        self.seen = Frame(file=file, line=frame.f_lineno, function=frame.f_code.co_qualname)
