"""Records of what other processes and the machine did to a trial, and of who could have done it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: What was done to a trial. ``signal``: a deadly signal from outside ended the VM; ``request``: the
#: VM was requested to stop from outside; ``fault``: the fake failed; ``journal``: its record was
#: damaged; ``process``: a process of ours was ended.
What = Literal["signal", "request", "fault", "journal", "process"]

#: Why a verdict is unknown: the machine, somebody outside of the trial, or, empty, neither.
Cause = Literal["", "machine", "outside"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedProcess:
    """A process beside the VM that the routine or its adapter started: it could have killed the VM.

    ``at_ns`` is None where that is not known; ``text`` is its command or what else is known of it.
    """

    at_ns: int | None
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedThread:
    """The thread that forked the VM, when it was seen last, and when it was seen to have ended."""

    name: str
    alive_ns: int
    gone_ns: int

    def __str__(self) -> str:
        return f"thread {self.name}, which had just ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspects:
    """Who could have sent a signal that nobody saw being sent.

    ``owner`` is the pid of the trial's own process, None where the VM is a simulated one.
    ``oom_kills``: by how many the kernel's count of processes that it killed for their memory, in
    the cgroup of this process, has grown during the trial.
    """

    owner: int | None = None
    processes: tuple[StartedProcess, ...] = ()
    thread: EndedThread | None = None
    oom_kills: int = 0

    def __str__(self) -> str:
        told = [*map(str, self.processes), *([] if self.thread is None else [str(self.thread)])]
        return ", ".join(told) or "nobody"


NO_SUSPECTS = Suspects()


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """What was done to a trial, by whom, and a clause that tells it."""

    what: What
    by: Literal["machine", "outside"]
    text: str

    def __str__(self) -> str:
        return self.text
