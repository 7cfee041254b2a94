"""Real locks and functions that the code under test uses: seen in a few schedules, by any name.

A real lock that is taken and released between two operations never blocks anybody here, and its
part in a deadlock would not be seen. A real ``time.sleep`` that is a default argument takes real
time, and a real ``os.kill`` finds no VM. What the standard library and installed packages do with
theirs is their business.
"""

from __future__ import annotations

import builtins
import functools
import os
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gracekill.explore import clocks, processes
from pytest_gracekill.explore.tasks import refused
from pytest_gracekill.witness.sites import Frame

if TYPE_CHECKING:
    from types import FrameType

_KINDS = (type(threading.Lock()), type(threading.RLock()))
_CALLS = frozenset(("acquire", "__enter__", "__exit__", "release"))
#: What has a simulated one, as it was before anything was replaced; those that do no harm are not.
_FUNCTIONS = {
    id(real): real
    for real, _ in (*clocks.replacements(), *processes.replacements())
    if real not in (builtins.open, os.close)
}


@functools.cache
def installed() -> tuple[str, ...]:
    """Where the standard library and installed packages are."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple(dict.fromkeys(sysconfig.get_path(name) for name in names))


class RealCalls:
    """A profile function; ``seen`` is where the first real lock was used."""

    def __init__(self) -> None:
        self.seen: Frame | None = None
        self._not_theirs = (*installed(), str(Path(__file__).parents[1]), "<")

    def __call__(self, frame: FrameType, event: str, called: object) -> None:
        if event != "c_call" or self.seen is not None:
            return
        is_function = id(called) in _FUNCTIONS
        if not is_function and not (
            getattr(called, "__name__", "") in _CALLS
            and isinstance(getattr(called, "__self__", None), _KINDS)
        ):
            return
        file = frame.f_code.co_filename
        if file.startswith(self._not_theirs):
            return
        site = Frame(file=file, line=frame.f_lineno, function=frame.f_code.co_qualname)
        if is_function:
            # not even once: it may signal whom it should not
            name = getattr(called, "__name__", str(called))
            raise refused(
                f"the real {name}() is called at {site}, by a name that is bound in a default"
                " argument, a class or an object: such a name is not simulated; call it by its"
                " module there, or by a name that a module has imported"
            )
        self.seen = site
