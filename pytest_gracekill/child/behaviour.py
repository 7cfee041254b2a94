"""What a fake does at a block instead of writing it: crash, stall, or stop."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """The fake ends when block `at` is due, the earlier ones written.

    Exactly one of `exit` (a status) and `signal` (by which it kills itself) is given. With
    the knob `torn=True` the first half of the block has been written.
    """

    at: int
    exit: int | None = None
    signal: int | None = None

    def __str__(self) -> str:
        how = f"exit={self.exit}" if self.signal is None else f"signal={int(self.signal)}"
        return f"Crash(at={self.at}, {how})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """The flush pauses for `seconds` before block `at`, on top of `flush_time`."""

    at: int
    seconds: float

    def __str__(self) -> str:
        return f"Stall(at={self.at}, seconds={self.seconds:g})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The fake sends SIGSTOP to itself when block `at` is due; after SIGCONT it goes on."""

    at: int

    def __str__(self) -> str:
        return f"Stop(at={self.at})"
