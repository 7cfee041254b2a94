"""Who waits for whom, now: the deadlocks that a trial runs into.

A thread that is about to block for good registers its wait and, in the same critical section,
walks owner -> lock that the owner waits for -> its owner ... A cycle can only be closed by the last
of its threads to register: by then all others stand still, so what that one walk sees cannot change
under it, although owners are written without any mutex. Threads that run, timed waits and
semaphores end the walk.

A `Lock` may legally be released by another thread than its owner, so a cycle is no deadlock yet:
the thread waits for `CONFIRM` seconds, and only a cycle of the very same holds and waits after that
is reported. A hand-over that takes longer than that, while its threads wait in a circle, is taken
for a deadlock.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pytest_gracekill.clock import monotonic_ns
from pytest_gracekill.counted import counted
from pytest_gracekill.witness.sites import Frame, current_stack, frames_of

if TYPE_CHECKING:
    from pytest_gracekill.witness.dead_end import AnyDeadlock
    from pytest_gracekill.witness.history import RawHold
    from pytest_gracekill.witness.sites import Site
    from pytest_gracekill.witness.traced_lock import TracedLock

CONFIRM = 0.05

#: What helps against a circle of threads.
ORDER = "take the locks in one order everywhere"


class Waiting(NamedTuple):
    """A thread waits for a lock: the registered fact, compared by identity."""

    lock: TracedLock
    since_ns: int
    timed: bool
    site: Site


class Tries:
    """Failed tries of one operation to acquire a lock without waiting for it."""

    __slots__ = ("first_ns", "last_ns", "number", "site")

    def __init__(self, at_ns: int, site: Site) -> None:
        self.first_ns = self.last_ns = at_ns
        self.number = 1
        self.site = site


class Awaiting(NamedTuple):
    """A thread waits for a notification, without a timeout; ``waiter`` is let go by it."""

    condition: str
    waiter: threading.Lock
    since_ns: int
    site: Site


class ThreadState:
    """What one thread holds and waits for; created when it first uses a traced lock.

    :ivar finished: it runs nothing more of the user's, although it has not ended yet.
    :ivar operating: it works in operations with a known end, as a contender and a caller do.
    :ivar tries: the locks that the operation has tried in vain to acquire, while it is operating.
    """

    __slots__ = (
        "asked",
        "awaiting",
        "finished",
        "held",
        "ident",
        "name",
        "operating",
        "thread",
        "tries",
        "waiting",
    )

    def __init__(self) -> None:
        thread = threading.current_thread()
        self.name = thread.name
        self.ident = threading.get_ident()
        self.thread = weakref.ref(thread)
        self.held: list[TracedLock] = []
        self.waiting: Waiting | None = None
        self.awaiting: Awaiting | None = None
        self.finished = False
        self.operating = False
        self.tries: dict[TracedLock, Tries] = {}
        # (lock asked for, *locks held): what the lock order has already seen of this thread
        self.asked: set[tuple[TracedLock, ...]] = set()


class Link(NamedTuple):
    """A thread of a cycle: what it waits for, and the hold by which the next thread has that."""

    thread: ThreadState
    waiting: Waiting
    hold: RawHold


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlockStep:
    """One thread of a deadlock: the lock that it holds, and the lock that it waits for."""

    thread: str
    holds: str
    held_since_ns: int
    taken_at: tuple[Frame, ...]
    waits_for: str
    waiting_since_ns: int
    waiting_at: tuple[Frame, ...]

    def __str__(self) -> str:
        return f"{self.thread} holds {self.holds} and waits for {self.waits_for}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlock:
    """Threads that wait for each other; the first step is the thread that closed the cycle."""

    steps: tuple[DeadlockStep, ...]
    at_ns: int

    @property
    def locks(self) -> tuple[str, ...]:
        """The locks of the cycle, each held by one of its threads."""
        return tuple(step.holds for step in self.steps)

    @property
    def threads(self) -> tuple[str, ...]:
        """The threads of the cycle."""
        return tuple(step.thread for step in self.steps)

    @property
    def advice(self) -> str:
        if len(self.steps) == 1:
            return "don't take a lock again that the same thread holds, or make it an RLock"
        return ORDER

    def __str__(self) -> str:
        return "; ".join(str(step) for step in self.steps)

    def describe(self) -> str:
        """Lines for people: every thread with the lock it holds, where it took it and waits."""
        number = len(self.steps)
        lines = [f"deadlock of {counted(number, 'thread')} over {counted(number, 'lock')}"]
        for step in self.steps:
            where = "taken at" if step.taken_at else "since the routine was called"
            lines.append(f"  {step.thread} holds {step.holds}, {where}")
            lines += [f"    {frame}" for frame in step.taken_at]
            lines.append(f"  {step.thread} waits for {step.waits_for} at")
            lines += [f"    {frame}" for frame in step.waiting_at]
        return "\n".join(lines)


class DeadlockDetected(RuntimeError):  # noqa: N818 (a public name of the design)
    """Raised by a wait that would never end; by that of a lock, the lock was not taken."""

    def __init__(self, deadlock: AnyDeadlock) -> None:
        super().__init__(deadlock)
        self.deadlock = deadlock

    def __str__(self) -> str:
        return f"deadlock: {self.deadlock}"


def cycle_through(thread: ThreadState) -> tuple[Link, ...] | None:
    """Walk from a waiting thread over owners and their waits; return the cycle back to it."""
    links: list[Link] = []
    visited = set()
    current = thread
    while current not in visited:
        visited.add(current)
        waiting = current.waiting
        if waiting is None or waiting.timed:
            return None
        hold = waiting.lock.hold
        if hold is None:
            return None
        links.append(Link(current, waiting, hold))
        current = hold[0]
    # a cycle further down, without this thread, was found by the one that closed it
    return tuple(links) if current is thread else None


def same_cycle(one: tuple[Link, ...], other: tuple[Link, ...] | None) -> bool:
    """Tell whether two looks saw the very same holds and waits, and not merely equal ones."""
    return (
        other is not None
        and len(one) == len(other)
        and all(
            a.waiting is b.waiting and a.hold is b.hold for a, b in zip(one, other, strict=True)
        )
    )


def deadlock_of(cycle: tuple[Link, ...]) -> Deadlock:
    """Put a cycle on record, with the stacks of its threads as they are now."""
    return Deadlock(
        at_ns=monotonic_ns(),
        steps=tuple(
            DeadlockStep(
                thread=link.thread.name,
                # what this thread holds is what the one before it waits for
                holds=before.waiting.lock.name,
                held_since_ns=before.hold[1],
                taken_at=frames_of(before.hold[2]),
                waits_for=link.waiting.lock.name,
                waiting_since_ns=link.waiting.since_ns,
                waiting_at=current_stack(link.thread.ident) or frames_of(link.waiting.site),
            )
            for before, link in zip((cycle[-1], *cycle[:-1]), cycle, strict=True)
        ),
    )
