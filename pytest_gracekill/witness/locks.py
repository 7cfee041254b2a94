"""The locks of one trial, and everything that is known about them.

`LockTracer` makes traced locks and keeps what they need in common: the threads, the history, the
graph of waits (deadlocks that happen) and the order of acquisitions (deadlocks that could).

Not seen: locks and conditions that were not made here, and those of other processes. Which thread
is meant goes by its identity, a name is taken at its first use.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pytest_gracekill.clock import monotonic_ns
from pytest_gracekill.witness.class_order import class_cycles
from pytest_gracekill.witness.conditions import TracedCondition
from pytest_gracekill.witness.history import History
from pytest_gracekill.witness.lock_order import LockOrder, OrderCycle, OrderEdge
from pytest_gracekill.witness.sites import calling_site
from pytest_gracekill.witness.traced_lock import LockStatistics, TracedLock, TracedRLock
from pytest_gracekill.witness.wait_graph import (
    Deadlock,
    DeadlockDetected,
    DeadlockStep,
    ThreadState,
    Tries,
    Waiting,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gracekill.witness.dead_end import AnyDeadlock
    from pytest_gracekill.witness.history import RawHeld, RawHold, RawWait
    from pytest_gracekill.witness.traced_lock import Inner

__all__ = [
    "Deadlock",
    "DeadlockDetected",
    "DeadlockStep",
    "LockStatistics",
    "LockTracer",
    "OrderCycle",
    "OrderEdge",
    "TracedCondition",
    "TracedLock",
    "TracedRLock",
]


#: An operation that has tried so often goes on trying.
_GOES_ON_TRYING = 3


class _Threads(threading.local):
    """The state of the calling thread, made at its first use of a traced lock."""

    def __init__(self, known: list[ThreadState]) -> None:
        super().__init__()
        self.state = ThreadState()
        known.append(self.state)


class LockTracer:
    """The factory of traced locks, and the graphs of one trial.

    :ivar deadlocks: every deadlock that was found and broken up, in this order.
    :ivar locks: every lock that was made.
    :ivar left_behind: the holds of ended threads that have been reported.
    :ivar active: False after `stop`.
    """

    def __init__(self, history: History | None = None) -> None:
        self.history = History() if history is None else history
        self.deadlocks: list[AnyDeadlock] = []
        self.locks: list[TracedLock] = []
        self.left_behind: list[RawHold] = []
        self.active = True
        # re-entrant: a signal handler may use a traced lock while its thread is in here
        self.mutex = threading.RLock()
        self.order = LockOrder(self.mutex)
        self._known: list[ThreadState] = []
        self.threads = _Threads(self._known)
        self.record_hold = self.history.raw_holds.append
        #: Told of each step ("acquire" before it, "release" after it) in the thread that does it.
        self.on_step: Callable[[str, TracedLock], None] | None = None
        self._open_at_stop: tuple[list[RawHeld], list[RawWait]] | None = None
        self.history.watch(self._still_open)

    def lock(self, name: str, class_: str | None = None, inner: Inner | None = None) -> TracedLock:
        """Make a lock; `class_` is what it has in common with others, by default its name.

        It takes `inner`, by default a lock of its own.
        """
        lock = TracedLock(self, name, class_, inner)
        self.locks.append(lock)
        return lock

    def rlock(
        self, name: str, class_: str | None = None, inner: Inner | None = None
    ) -> TracedRLock:
        """Make a lock that its owner may take again."""
        lock = TracedRLock(self, name, class_, inner)
        self.locks.append(lock)
        return lock

    def condition(self, name: str, lock: TracedLock | None = None) -> TracedCondition:
        """Make a condition over one of these locks, by default over an RLock of its own."""
        return TracedCondition(self, name, self.rlock(name) if lock is None else lock)

    def stop(self) -> None:
        """Record nothing and raise nothing from now on; locks and their owners go on working.

        What is held or waited for at this moment stays in the history, without an end.
        """
        with self.mutex:
            if self.active:
                self._open_at_stop = self._still_open()
                self.active = False

    def held_by(self, thread_ident: int) -> list[TracedLock]:
        """List the locks that a thread holds, in the order in which it took them."""
        for state in reversed(list(self._known)):
            # the latest, since the system gives identities of ended threads away again
            if state.ident == thread_ident:
                held = [(lock, lock.hold) for lock in list(state.held)]
                # an adopted lock may have been let go by a name that is not traced
                return [lock for lock, hold in held if hold is not None and hold[0] is state]
        return []

    def chain_to(self, owner_ident: int, thread_ident: int | None) -> tuple[object, ...] | None:
        """Say how a thread waits for a lock of another one's, directly or behind others.

        The waits and holds on the way, by identity; None when it does not.
        """
        # the latest of each, since the system gives identities of ended threads away again
        latest = {state.ident: state for state in list(self._known)}
        current = None if thread_ident is None else latest.get(thread_ident)
        chain: list[object] = []
        visited = set()
        while current is not None and current not in visited:
            visited.add(current)
            waiting = current.waiting
            hold = None if waiting is None else waiting.lock.hold
            if hold is None:
                return None
            chain += (waiting, hold)
            current = hold[0]
            if current.ident == owner_ident:
                return tuple(chain)
        return None

    @property
    def known(self) -> list[ThreadState]:
        """Every thread that has used a traced lock, in the order of their first use."""
        return self._known

    def finish(self) -> None:
        """Say that the calling thread runs nothing more of the user's, as if it had ended."""
        self.threads.state.finished = True

    def is_handed_over(self, class_: str) -> bool:
        """Whether a lock of this class has ever been released by another thread than its owner."""
        return any(lock.is_semaphore for lock in list(self.locks) if lock.class_ == class_)

    def was_given_back(self, lock: TracedLock) -> bool:
        """Whether a lock has been released before, by whoever had taken it."""
        return bool(self._holds_of(lock))

    def order_cycles(self) -> list[OrderCycle]:
        """Find the cycles in the order in which locks were taken, and in that of their classes.

        See `lock_order` and `class_order`.
        """
        cycles = self.order.cycles()
        return cycles + class_cycles(self.order, cycles)

    @property
    def acquisitions(self) -> int:
        """How often any lock was taken, re-entries not counted."""
        held, _ = self._still_open() if self._open_at_stop is None else self._open_at_stop
        return len(self._holds_of(None)) + len(held)

    def statistics_of(self, lock: TracedLock) -> LockStatistics:
        """Count what the history has about one lock."""
        now = monotonic_ns()
        still_held, still_waiting = self._still_open()
        holds = self._holds_of(lock) + [held for held in still_held if held[0] is lock]
        waits = [wait for wait in list(self.history.raw_waits) if wait[0] is lock]
        waits += [wait for wait in still_waiting if wait[0] is lock]
        return LockStatistics(
            name=lock.name,
            acquisitions=len(holds),
            contended=len(waits),
            longest_hold=max(((until or now) - hold[1] for _, hold, until in holds), default=0)
            / 1e9,
            longest_wait=max(((wait[3] or now) - wait[2] for wait in waits), default=0) / 1e9,
            owner=lock.owner,
            is_semaphore=lock.is_semaphore,
        )

    def note_wait(self, state: ThreadState, waiting: Waiting, *, acquired: bool) -> None:
        """Record a wait that has ended."""
        if self.active:
            self.history.raw_waits.append(
                (
                    waiting.lock,
                    state,
                    waiting.since_ns,
                    monotonic_ns(),
                    acquired,
                    waiting.timed,
                    waiting.site,
                )
            )

    def operate(self) -> dict[TracedLock, Tries]:
        """Say that the calling thread works in operations: `end_tries` is called after each.

        Returns the tries of the operation that it is in.
        """
        state = self.threads.state
        state.operating = True
        return state.tries

    def note_try(self, state: ThreadState, lock: TracedLock) -> None:
        """Take note of an acquisition that did not wait and failed; called at each."""
        now, tries = monotonic_ns(), state.tries.get(lock)
        if tries is None:
            state.tries[lock] = Tries(now, calling_site())
        else:
            tries.last_ns = now
            tries.number += 1

    def end_tries(self, lock: TracedLock | None = None, *, acquired: bool = False) -> None:
        """Record the tries of the calling thread as the wait that they are, if it went on trying.

        ``lock``: only those for this one, at their success.
        """
        state = self.threads.state
        for tried in list(state.tries) if lock is None else [lock]:
            tries = state.tries.pop(tried, None)
            if tries is not None and tries.number >= _GOES_ON_TRYING and self.active:
                until = monotonic_ns() if acquired else tries.last_ns
                self.history.raw_waits.append(
                    (tried, state, tries.first_ns, until, acquired, True, tries.site)
                )

    def _holds_of(self, lock: TracedLock | None) -> list[RawHeld]:
        mine = set(self.locks) if lock is None else {lock}
        return [held for held in list(self.history.raw_holds) if held[0] in mine]

    def _still_open(self) -> tuple[list[RawHeld], list[RawWait]]:
        if self._open_at_stop is not None:
            return self._open_at_stop
        holds: list[RawHeld] = [
            (lock, hold, None)
            for lock in list(self.locks)
            if (hold := lock.latest_hold) is not None
        ]
        waits: list[RawWait] = [
            (now.lock, state, now.since_ns, None, False, now.timed, now.site)
            for state in list(self._known)
            if (now := state.waiting) is not None
        ]
        waits += [
            (lock, state, tries.first_ns, None, False, True, tries.site)
            for state in list(self._known)
            for lock, tries in list(state.tries.items())
            if tries.number >= _GOES_ON_TRYING
        ]
        return holds, waits
