"""The one reading of time: CLOCK_MONOTONIC, the same for all processes of the machine.

It is read by `time.clock_gettime_ns`: libraries that freeze or move the time for a test, such as
freezegun and time-machine, replace `time.monotonic` and `time.monotonic_ns` as well as `time.time`,
and a trial that read those would see a routine take no time. An exploration replaces `monotonic`
here, for its tasks alone, by the virtual clock.
"""

from __future__ import annotations

import functools
import select
import sys
import time

from pytest_gracekill.errors import UsageError

if sys.platform == "win32":
    # imported there, too; no trial runs there
    from time import monotonic, monotonic_ns
else:
    #: CLOCK_MONOTONIC in nanoseconds; without a frame of its own, since traced locks read it.
    monotonic_ns = functools.partial(time.clock_gettime_ns, time.CLOCK_MONOTONIC)

    def monotonic() -> float:
        """CLOCK_MONOTONIC in seconds."""
        return monotonic_ns() / 1e9


#: Milliseconds for which `check` lets the kernel wait.
_PROBE = 2

__all__ = ["check", "check_loop", "monotonic", "monotonic_ns"]


def check() -> None:
    """Compare this clock once with the kernel's: a wait of 2 ms takes 2 ms by both.

    :raises UsageError: the clock is frozen, or runs at another pace.
    """
    before = monotonic_ns()
    select.poll().poll(_PROBE)
    took = (monotonic_ns() - before) / 1e6
    if took < _PROBE / 2:
        raise UsageError(
            f"time.clock_gettime_ns(CLOCK_MONOTONIC) says that a wait of {_PROBE} ms took"
            f" {took:.3f} ms: something has replaced it, and no trial can be judged by a clock that"
            " stands still; let it run for the length of the trial"
        )


def check_loop() -> None:
    """Compare the clock of asyncio's loops with this one: their timers go by `time.monotonic`.

    :raises UsageError: it is frozen, so that no `asyncio.sleep` and no time-out would ever end.
    """
    import asyncio  # noqa: PLC0415 - for async routines only

    loop = asyncio.new_event_loop()
    try:
        before = loop.time()
        select.poll().poll(_PROBE)
        took = (loop.time() - before) * 1e3
    finally:
        loop.close()
    if took < _PROBE / 2:
        raise UsageError(
            f"the clock of asyncio's event loop says that a wait of {_PROBE} ms took {took:.3f} ms:"
            " time.monotonic is frozen, and an async routine would wait for ever; let it run for"
            " the length of the trial, as freezegun does with tick=True or real_asyncio=True"
        )
