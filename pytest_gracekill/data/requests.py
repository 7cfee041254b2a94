"""Records of how a VM was asked to stop and of what ended it."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal

#: Why a request was not heard.
Reason = Literal["stopped", "blocked", "ignored", "paused", "not ready", "refused"]


def signal_name(signum: int) -> str:
    """``SIGTERM`` for 15; the number where the platform has no name for it."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unheard:
    """Why a request could not be heard: the reason, and a clause that says so of the VM."""

    reason: Reason
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to stop: its name, such as SIGTERM or QMP quit, and its moments in nanoseconds.

    ``sent_ns`` is None where nobody saw it being sent, ``reached_ns`` where the VM did not note it.
    ``unheard``: why it was not heard, None where it was heard or no reason is known.
    ``outside``: the pid of its sender, where that is no process of the trial.
    """

    name: str
    sent_ns: int | None
    reached_ns: int | None
    unheard: Unheard | None = None
    outside: int | None = None

    @property
    def at_ns(self) -> int:
        """When it was sent, or else when it was first seen."""
        found = self.sent_ns if self.sent_ns is not None else self.reached_ns
        assert found is not None
        return found

    def __str__(self) -> str:
        return self.name


#: Who sent a deadly signal: ``recorded``, the recorder saw it being sent. Of one that nobody saw:
#: ``routine``, a process that the routine or its adapter had started; ``thread``, the kernel, since
#: the thread that forked the VM had ended (PR_SET_PDEATHSIG); ``oom``, the kernel, for its memory;
#: ``outside``, nobody of the trial.
Sender = Literal["recorded", "routine", "thread", "oom", "outside"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadly:
    """The signal that ended the VM, and who sent it."""

    at_ns: int
    signum: int
    sender: Sender

    @property
    def seen(self) -> bool:
        """Whether the recorder saw it being sent."""
        return self.sender == "recorded"

    @property
    def by_routine(self) -> bool:
        """Whether the routine is to answer for it."""
        return self.sender in ("recorded", "routine", "thread")

    def __str__(self) -> str:
        return signal_name(self.signum)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSignal:
    """A stop signal that was seen pending at the VM, and why the VM could not take it."""

    at_ns: int
    signum: int
    unheard: Unheard

    def __str__(self) -> str:
        return f"{signal_name(self.signum)} pending: {self.unheard}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A start of the VM: its pid, when it was seen, and the process that started it."""

    pid: int
    at_ns: int
    by: str

    def __str__(self) -> str:
        return f"pid {self.pid} by {self.by}"
