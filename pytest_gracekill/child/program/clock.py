"""CLOCK_MONOTONIC, also in a process forked from a test whose clock is frozen.

As `pytest_gracekill.clock`: what freezes time for a test replaces `time.monotonic`.
"""

from time import CLOCK_MONOTONIC, clock_gettime_ns


def monotonic_ns() -> int:
    """Return it in nanoseconds."""
    return clock_gettime_ns(CLOCK_MONOTONIC)


def monotonic() -> float:
    """Return it in seconds."""
    return clock_gettime_ns(CLOCK_MONOTONIC) / 1e9
