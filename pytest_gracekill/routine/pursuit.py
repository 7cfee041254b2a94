"""One call after one incarnation: what it sends, how it waits, and which signal made the end.

What has been sent is kept on the domain, per incarnation, so that a second call knows it: it sends
no second SIGTERM, and both calls name the same signal as the one that ended the process.
"""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gracekill import clock
from pytest_gracekill.routine.target import SIGKILL

if TYPE_CHECKING:
    from pytest_gracekill.routine.interrupt import Interrupts
    from pytest_gracekill.routine.policy import KillPolicy
    from pytest_gracekill.routine.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A signal that an incarnation was sent, and whether it was alive right before."""

    signum: int
    alive: bool

    def __str__(self) -> str:
        return f"signal {self.signum}{'' if self.alive else ', to a zombie'}"


class Pursuit:
    """Signals and looks of one call; ``errno`` says why a signal could not be sent."""

    def __init__(self, target: Target, sent: list[Sent], interrupts: Interrupts) -> None:
        self.errno: int | None = None
        self._target = target
        self._sent = sent
        self._interrupts = interrupts

    @property
    def gone(self) -> bool:
        """A signal found nobody: the process has ended and was reaped."""
        return self.errno == errno.ESRCH

    @property
    def asked(self) -> bool:
        """Whether this incarnation has been sent a signal already, by whatever call."""
        return bool(self._sent)

    def send(self, signum: int) -> bool:
        """Send it; False and ``errno`` when that failed. 0 only asks, and a zombie answers."""
        entry = Sent(signum=signum, alive=not self._target.ended(0)) if signum else None
        if entry is not None:
            # on record before it is sent: a concurrent call that sees the end must find the cause
            self._sent.append(entry)
        try:
            self._target.send(signum)
        except OSError as error:
            self.errno = error.errno
            if entry is not None:
                self._sent.remove(entry)
            return False
        return True

    def ended(self, timeout: float = 0.0) -> bool:
        """Wait for the end, interruptibly; a zombie has ended."""
        with self._interrupts.let_in():
            return self._target.ended(timeout)

    def pause(self, seconds: float) -> None:
        """Sleep, interruptibly."""
        with self._interrupts.let_in():
            time.sleep(seconds)


def wait_for_end(pursuit: Pursuit, policy: KillPolicy, *, force: bool) -> bool:
    """Wait as the policy says, with SIGKILL after the grace if ``force``; whether it is dead."""
    if policy.wait == "seed":
        return _wait_like_the_seed(pursuit, policy, force=force)
    if not force:
        return _look(pursuit, policy, policy.grace + policy.reap)
    if _look(pursuit, policy, policy.grace):
        return True
    if not pursuit.send(SIGKILL):
        return pursuit.gone
    return _look(pursuit, policy, policy.reap)


def _look(pursuit: Pursuit, policy: KillPolicy, seconds: float) -> bool:
    if policy.wait == "pidfd":
        return pursuit.ended(seconds)
    deadline = clock.monotonic() + seconds
    while not pursuit.ended():
        remaining = deadline - clock.monotonic()
        if remaining <= 0:  # the look above was the last one, after the last sleep
            return False
        pursuit.pause(min(policy.poll, remaining))
    return True


def _wait_like_the_seed(pursuit: Pursuit, policy: KillPolicy, *, force: bool) -> bool:
    """The loop of qemuProcessKill in libvirt 0.9.10 and 0.9.11; step 0 sent the first signal."""
    kill_step = round(policy.grace / policy.poll)
    for step in range(round((policy.grace + policy.reap) / policy.poll)):
        if step > 0:
            signum = SIGKILL if force and step == kill_step else 0
            if not pursuit.send(signum):
                return pursuit.gone
        pursuit.pause(policy.poll)
    return False
