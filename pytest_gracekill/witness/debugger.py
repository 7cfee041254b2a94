"""Whether somebody stands at a debugger's prompt, and a budget that such time does not use up.

It shows in the stacks: a thread that was stopped is in the debugger's own code. That holds for pdb
and what is built on it, also through pytest's `--trace` and `breakpoint()`, and for pydevd, which
PyCharm and VS Code use. A debugger that stops the process from outside, such as gdb, is not seen.
"""

from __future__ import annotations

import sys
import traceback

from pytest_gracekill import clock

#: Top-level modules of debuggers, as pytest-timeout has them; pdb, ipdb and pudb are built on bdb.
_DEBUGGERS = frozenset({"bdb", "pdb", "pydevd", "_pydevd_bundle", "_pydevd_sys_monitoring"})


def at_prompt() -> bool:
    """Whether a thread of this process is in a debugger's code now."""
    if not _DEBUGGERS & sys.modules.keys():
        return False
    return any(
        str(frame.f_globals.get("__name__")).partition(".")[0] in _DEBUGGERS
        for innermost in sys._current_frames().values()  # noqa: SLF001 - documented
        for frame, _ in traceback.walk_stack(innermost)
    )


class Budget:
    """Seconds that a call has; the time at a debugger's prompt is not counted.

    It counts from one `left` to the next, so that this has to be called often.
    """

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._last = clock.monotonic()

    def left(self) -> float:
        """Return the seconds that are left; 0 or less when it is over."""
        now = clock.monotonic()
        took, self._last = now - self._last, now
        if not at_prompt():
            self._left -= took
        return self._left
