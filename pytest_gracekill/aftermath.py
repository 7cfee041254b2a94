"""What a trial waits for when every call has ended: the VM's own end, and who gets its pid."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pytest_gracekill import clock
from pytest_gracekill.child import mark as marks
from pytest_gracekill.promises import longest_end
from pytest_gracekill.verdicts.evidence import TOLERANCE
from pytest_gracekill.verdicts.requests import requests_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gracekill.child.handle import FakeQemu
    from pytest_gracekill.child.journal import Entry

#: Seconds for what should take milliseconds on a machine that is not drowned, and between looks.
_SOON = 2.0
_LOOK = 0.005

#: The states of a thread that is at something, see proc_pid_stat(5).
_AT_WORK = {"R", "D"}


def vm_ends(vm: FakeQemu, seconds: float) -> bool:
    """Whether a VM ends within so many seconds."""
    try:
        vm.wait(seconds)
    except TimeoutError:
        return False
    return True


def ends_by_itself(vm: FakeQemu, deadline_ns: int, *, killed: bool) -> bool:
    """Give a VM that was asked to stop and is still flushing the time that it needs.

    :param deadline_ns: until when a call would have waited for it, on CLOCK_MONOTONIC.
    :param killed: SIGKILL has reached it.
    """
    if killed:
        return vm_ends(vm, _SOON + vm.knobs.survives_kill)
    if vm_ends(vm, TOLERANCE):
        return True
    if not vm.knobs.ends_by_itself or not _asked(vm):
        return False
    left = (deadline_ns - clock.monotonic_ns()) / 1e9
    return vm_ends(vm, max(left, longest_end(vm.knobs)))


def await_request(vm: FakeQemu, settle: float, was_sent: Callable[[], bool]) -> None:
    """Wait until a request has reached a VM that is said to be gone, or it has ended, or not.

    A routine may have handed the request on to another process, which sends it a moment later.
    There is no event for what has reached another process.

    :param settle: seconds within which the request has to come.
    """
    deadline = clock.monotonic() + settle
    while clock.monotonic() < deadline:
        if was_sent() or requests_of(vm.journal.entries()) or not vm.alive:
            return
        time.sleep(_LOOK)


def await_reuse(vm: FakeQemu) -> None:
    """Wait until another process has got the VM's pid, or none can: there is no event for it."""
    deadline = clock.monotonic() + _SOON
    while clock.monotonic() < deadline:
        if any(entry.event in ("reused", "not_reused") for entry in vm.journal.entries()):
            return
        time.sleep(_LOOK)


def _flushes(entries: list[Entry]) -> bool:
    """Whether a flush has begun and not ended."""
    last = next((e for e in reversed(entries) if e.event in ("flush_begin", "flush_end")), None)
    return last is not None and last.event == "flush_begin"


def _asked(vm: FakeQemu) -> bool:
    """Whether a stop request has come to the VM, also one that it has had no time to note yet."""
    deadline = clock.monotonic() + _SOON
    while True:
        # a signal or a command that has come has made it runnable, until it is noted
        at_rest = not marks.thread_states(vm.pid) & _AT_WORK
        entries = vm.journal.entries()
        if requests_of(entries):
            return True
        if _flushes(entries):
            # QMP stop: what comes after it is read when the flush is over
            deadline = clock.monotonic() + _SOON
        elif at_rest or clock.monotonic() > deadline:
            return False
        time.sleep(_LOOK)
