"""Do something in a thread right after the call that it is in the middle of.

A trace function is set on the calling frame and taken off at its first event, which is the next
instruction, or the exception that the call has raised. The tracer of a debugger or of coverage is
put back, and misses that one event. Nothing happens after a call in a thread that has no frame of
Python code, and where the process replaces ``sys.settrace``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


def when_returned(frame: FrameType, then: Callable[[], None]) -> None:
    """Call ``then`` in this thread when the C function that ``frame`` calls now has returned.

    What it raises is raised in ``frame``, and ends the tracing of this thread.
    """
    tracer, local, opcodes = sys.gettrace(), frame.f_trace, frame.f_trace_opcodes

    def trace(traced: FrameType, _event: str, _argument: object) -> None:
        if traced is not frame:
            return  # a signal's handler, say
        sys.settrace(tracer)
        frame.f_trace_opcodes, frame.f_trace = opcodes, local
        then()

    frame.f_trace_opcodes, frame.f_trace = True, trace
    sys.settrace(trace)
