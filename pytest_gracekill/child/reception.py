"""How a process receives signals now: its state and its masks, as /proc/PID/status shows them.

`why_unheard` says why a signal that is sent now would not make a VM begin its flush. It cannot see
what the VM does with a signal that it takes: `on_term="ignore"` is taken and ignored.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gracekill.data.requests import Unheard, signal_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .handle import FakeQemu

_SIGSTOP = 19
_STOPPED = frozenset("Tt")
_ENDED = frozenset("ZX")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """State letters of the living threads of a process, and its signals by number.

    ``blocked`` are the signals that every living thread blocks.
    """

    states: frozenset[str]
    pending: frozenset[int]
    blocked: frozenset[int]
    ignored: frozenset[int]
    caught: frozenset[int]

    @property
    def state(self) -> str:
        """The letter for the whole process: T only if every living thread is stopped."""
        if not self.states:
            return "Z"
        others = self.states - _STOPPED
        return min(others or self.states)

    @property
    def stopped(self) -> bool:
        return self.state in _STOPPED

    def __str__(self) -> str:
        sets = [("pending", self.pending), ("blocked", self.blocked), ("ignored", self.ignored)]
        shown = [f"{name} {', '.join(map(str, sorted(which)))}" for name, which in sets if which]
        return "; ".join([f"state {self.state}", *shown])


def reception(pid: int) -> Reception | None:
    """Return how this process receives signals now; None when there is no such process."""
    main = _status(f"/proc/{pid}/status")
    if main is None:
        return None
    threads = [
        status for tid in _threads(pid) if (status := _status(f"/proc/{pid}/task/{tid}/status"))
    ]
    # a process whose main thread has ended goes on in the others
    living = [each for each in threads or [main] if each["State"][:1] not in _ENDED]
    return Reception(
        states=frozenset(each["State"][:1] for each in living),
        pending=_signals(main["ShdPnd"]).union(*(_signals(each["SigPnd"]) for each in living)),
        blocked=_common(_signals(each["SigBlk"]) for each in living),
        ignored=_signals(main["SigIgn"]),
        caught=_signals(main["SigCgt"]),
    )


def why_unheard(vm: FakeQemu, signum: int) -> Unheard | None:  # noqa: PLR0911 - one a reason
    """Say why the VM would not begin its flush if this signal were sent now; None if it would.

    That the VM flushes already or has ended is no reason, nor is what it was configured to do with
    the signal.
    """
    seen = reception(vm.pid)
    if seen is None or not seen.states:
        return None
    if seen.stopped:
        return Unheard(reason="stopped", text=f"the VM was stopped (state {seen.state})")
    if _SIGSTOP in seen.pending:
        # sent, and not acted on yet: the states are read after this, so that none falls between
        return Unheard(reason="stopped", text="the VM was stopped (SIGSTOP pending)")
    handlers = vm.journal.last("handlers")
    taken = None if handlers is None else handlers.fields.get("signals")
    if isinstance(taken, list) and signum in taken:
        return None  # the fake blocks what it takes, so that each signal has its sender's pid
    name = signal_name(signum)
    if signum in seen.ignored:
        return Unheard(reason="ignored", text=f"the VM had {name} ignored")
    if signum in seen.blocked:
        return Unheard(reason="blocked", text=f"the VM had {name} blocked")
    # a fake without handlers ends by the signal; a real QEMU's knobs have no such choice
    never = getattr(vm.knobs, "on_term", None) == "default"
    if handlers is not None or never:
        return None
    return Unheard(reason="not ready", text="the VM's signal handlers were not in yet")


def _threads(pid: int) -> list[str]:
    with contextlib.suppress(OSError):  # the process has ended
        return os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - names are enough
    return []


def _status(path: str) -> dict[str, str] | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - a file of /proc
            return dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    except OSError:
        return None


def _signals(mask: str) -> frozenset[int]:
    bits = int(mask, 16)
    return frozenset(number for number in range(1, 65) if bits >> (number - 1) & 1)


def _common(masks: Iterable[frozenset[int]]) -> frozenset[int]:
    every = list(masks)
    return frozenset.intersection(*every) if every else frozenset()
