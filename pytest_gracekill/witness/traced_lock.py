"""A lock that knows who holds it, since when, and where it was taken.

Interrupts. Python code can be interrupted (KeyboardInterrupt, an exception sent to a thread) at the
entry of a function, after a call, and at a jump backwards; nowhere else. The lock below is taken by
`for taken in self._attempts`: the iterator's step is one instruction that ends with the result in a
variable, while a call would have left a moment in which the lock is taken and nobody knows. From
there on an interrupt gives the lock back. Release clears the owner first and then, whatever
happens, releases. What remains:

- an interrupt at the entry of `release`, before its first line: the lock stays held, by an owner
  that is told truthfully. A `with` statement over a C lock has no such moment;
- an interrupt within `release`: the lock is released, the hold may be missing from the history;
- a second interrupt while the first one is being dealt with.

None of these lets a free lock have an owner.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Protocol

from pytest_gracekill.clock import monotonic_ns
from pytest_gracekill.witness.dead_end import LOOK, PATIENCE, OwnerEnded, has_ended
from pytest_gracekill.witness.sites import calling_site, current_stack, frames_of
from pytest_gracekill.witness.wait_graph import (
    CONFIRM,
    DeadlockDetected,
    Waiting,
    cycle_through,
    deadlock_of,
    same_cycle,
)

if TYPE_CHECKING:
    from pytest_gracekill.witness.history import RawHold
    from pytest_gracekill.witness.locks import LockTracer
    from pytest_gracekill.witness.wait_graph import Link, ThreadState

_BLOCKING = (True,)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockStatistics:
    """What became of one lock so far; times in seconds, waits and holds that go on included."""

    name: str
    acquisitions: int
    contended: int
    longest_hold: float
    longest_wait: float
    owner: str | None
    is_semaphore: bool

    def __str__(self) -> str:
        state = "semaphore" if self.is_semaphore else f"held by {self.owner or 'nobody'}"
        return (
            f"{self.name}: {state}, {self.acquisitions} acquisitions, {self.contended} contended, "
            f"longest hold {self.longest_hold:.6f} s, longest wait {self.longest_wait:.6f} s"
        )


class Inner(Protocol):
    """The lock inside, which keeps the others out; its owner takes it once."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...  # noqa: FBT001, FBT002 (threading.Lock's signature)

    def release(self) -> None: ...

    def locked(self) -> bool: ...


class TracedLock:
    """A `threading.Lock` under observation; made by `LockTracer.lock`.

    Once released by another thread than the one that took it, it is a semaphore: it has no owner
    any more and leaves the wait graph and the lock order.
    """

    __slots__ = (
        "__weakref__",
        "_attempts",
        "_count",
        "_hold",
        "_inner",
        "_semaphore",
        "_threads",
        "_tracer",
        "class_",
        "kind",
        "name",
    )

    reentrant: ClassVar[bool] = False

    def __init__(
        self,
        tracer: LockTracer,
        name: str,
        class_: str | None = None,
        inner: Inner | None = None,
    ) -> None:
        self.name = name
        self.class_ = name if class_ is None else class_
        #: Its class by a name that is nobody else's, in whatever trial.
        self.kind = self.class_
        self._tracer = tracer
        self._threads = tracer.threads
        self._inner: Inner = threading.Lock() if inner is None else inner
        # each step tries to take the lock and gives True or False, never the sentinel
        self._attempts = iter(partial(self._inner.acquire, False), None)  # noqa: FBT003 (C function)
        self._hold: RawHold | None = None
        self._count = 0
        self._semaphore = False

    def __repr__(self) -> str:
        state = "locked" if self.locked() else "unlocked"
        return f"<{type(self).__name__} {self.name!r} {state}, owner {self.owner!r}>"

    @property
    def inner(self) -> Inner:
        """The lock inside."""
        return self._inner

    @property
    def hold(self) -> RawHold | None:
        """Owner, since when, taken where; None while free, and for a semaphore."""
        return None if self._semaphore else self._hold

    @property
    def latest_hold(self) -> RawHold | None:
        """As `hold`, but a semaphore tells who has taken it last."""
        return self._hold

    @property
    def owner(self) -> str | None:
        """The name of the thread that holds the lock, None for a semaphore."""
        hold = self.hold
        return None if hold is None else hold[0].name

    @property
    def is_semaphore(self) -> bool:
        """Whether another thread than the owner has ever released it."""
        return self._semaphore

    def locked(self) -> bool:
        """Tell whether anybody has it."""
        return self._inner.locked()

    def held(self) -> bool:
        """Tell whether the calling thread owns it; never true of a semaphore."""
        hold = self.hold
        return hold is not None and hold[0] is self._threads.state

    def statistics(self) -> LockStatistics:
        """Count what the history has about this lock; costs a pass over it."""
        return self._tracer.statistics_of(self)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002 (threading.Lock's signature)
        """Take the lock as `threading.Lock.acquire` does.

        :raises DeadlockDetected: this thread and others would wait for each other for ever.
        """
        state = self._threads.state
        tracer = self._tracer
        if tracer.on_step is not None:
            tracer.on_step("acquire", self)
        if timeout != -1:
            if not blocking or not 0 <= timeout <= threading.TIMEOUT_MAX:
                return self._inner.acquire(blocking, timeout)  # raises what a Lock raises
        elif blocking and state.held and (self, *state.held) not in state.asked and tracer.active:
            tracer.order.ask(state, self, calling_site())
        taken = False
        try:
            for taken in self._attempts:  # noqa: B007 (the loop is the assignment, see above)
                break
            if not taken:
                return self._acquire_contended(state, blocking, timeout)
            self._hold = (state, monotonic_ns(), calling_site() if tracer.active else ())
            state.held.append(self)
            if state.tries:
                tracer.end_tries(self, acquired=True)
        except BaseException:
            if taken:
                self._forsake(state)
            raise
        return True

    __enter__ = acquire

    def release(self) -> None:
        """Give the lock back as `threading.Lock.release` does."""
        hold = self._hold
        state = self._threads.state
        if hold is None or hold[0] is not state:
            self._release_foreign()
            return
        if self._count:
            self._count -= 1
            return
        try:
            state.held.remove(self)
            if self._tracer.active:
                self._tracer.record_hold((self, hold, monotonic_ns()))
        finally:
            self._hold = None
            self._inner.release()
        if self._tracer.on_step is not None:
            self._tracer.on_step("release", self)

    def __exit__(self, *_: object) -> None:
        self.release()

    def _acquire_contended(self, state: ThreadState, blocking: bool, timeout: float) -> bool:  # noqa: FBT001 (as acquire)
        hold = self._hold
        if self.reentrant and hold is not None and hold[0] is state:
            self._count += 1
            return True
        tracer = self._tracer
        if not blocking or timeout == 0:
            if state.operating and tracer.active:
                tracer.note_try(state, self)
            return False
        waiting = Waiting(self, monotonic_ns(), timeout != -1, calling_site())
        # a signal handler may take a traced lock while its own thread waits for this one
        interrupted = state.waiting
        results: list[bool] = []
        try:
            if waiting.timed or not tracer.active:
                state.waiting = waiting
                self._wait(results, timeout)
            else:
                self._wait_unless_deadlocked(results, state, waiting)
            state.waiting = interrupted
            if any(results):
                self._hold = (state, monotonic_ns(), waiting.site)
                state.held.append(self)
                if state.tries:
                    tracer.end_tries(self, acquired=True)
            tracer.note_wait(state, waiting, acquired=any(results))
        except BaseException:
            state.waiting = interrupted
            if any(results):
                self._forsake(state)
            tracer.note_wait(state, waiting, acquired=False)
            raise
        return any(results)

    def _wait(self, results: list[bool], timeout: float) -> None:
        # in one call, so that no interrupt can come between the taking and the note of it
        results.extend(map(self._inner.acquire, _BLOCKING, (timeout,)))

    def _wait_unless_deadlocked(
        self, results: list[bool], state: ThreadState, waiting: Waiting
    ) -> None:
        with self._tracer.mutex:
            state.waiting = waiting
            cycle = cycle_through(state)
        if cycle is not None:
            self._wait(results, CONFIRM)
            if any(results):
                return
            self._raise_if_still(cycle, state)
        left: tuple[RawHold, int] | None = None
        while self._tracer.active:
            self._wait(results, LOOK)
            if any(results):
                return
            hold = self.hold
            if hold is None or not has_ended(hold[0]):
                left = None
                continue
            if left is None or left[0] is not hold:
                left = hold, monotonic_ns()
            if self._is_left_behind(hold, monotonic_ns() - left[1]):
                self._raise_owner_ended(hold, state, waiting)
        self._wait(results, -1)

    def _is_left_behind(self, hold: RawHold, for_ns: int) -> bool:
        """Whether nobody will release what an ended thread has held for so long; see `dead_end`."""
        if self.hold is not hold:
            return False  # it changed hands before the thread ended
        if self.reentrant:
            return True
        if for_ns < CONFIRM * 1e9 or self._tracer.is_handed_over(self.class_):
            return False
        return for_ns >= PATIENCE * 1e9 or self._tracer.was_given_back(self)

    def _raise_owner_ended(self, hold: RawHold, state: ThreadState, waiting: Waiting) -> None:
        tracer = self._tracer
        with tracer.mutex:
            if not tracer.active or self.hold is not hold:
                return
            found = OwnerEnded(
                lock=self.name,
                owner=hold[0].name,
                held_since_ns=hold[1],
                taken_at=frames_of(hold[2]),
                thread=state.name,
                waiting_since_ns=waiting.since_ns,
                waiting_at=current_stack(state.ident) or frames_of(waiting.site),
                at_ns=monotonic_ns(),
            )
            if not any(known is hold for known in tracer.left_behind):
                tracer.left_behind.append(hold)
                tracer.deadlocks.append(found)
            self._open(hold)
        raise DeadlockDetected(found)

    def _open(self, hold: RawHold) -> None:
        """Release what was left behind, so that the others go on."""
        with suppress(ValueError):
            hold[0].held.remove(self)
        self._tracer.record_hold((self, hold, monotonic_ns()))
        self._count = 0
        self._hold = None
        self._inner.release()

    def _raise_if_still(self, cycle: tuple[Link, ...], state: ThreadState) -> None:
        with self._tracer.mutex:
            if not self._tracer.active or not same_cycle(cycle, cycle_through(state)):
                return
            deadlock = deadlock_of(cycle)
            self._tracer.deadlocks.append(deadlock)
        raise DeadlockDetected(deadlock)

    def _release_foreign(self) -> None:
        """Release a lock that the calling thread has not taken: a hand-over, or a mistake."""
        if self.reentrant:
            raise RuntimeError("cannot release un-acquired lock")
        if not self._inner.locked():
            self._inner.release()  # raises what a Lock raises
        tracer = self._tracer
        with tracer.mutex:
            self._semaphore = True
            tracer.order.drop(self)
        hold = self._hold
        try:
            if hold is not None:
                with suppress(ValueError):
                    hold[0].held.remove(self)
                if tracer.active:
                    tracer.record_hold((self, hold, monotonic_ns()))
        finally:
            self._hold = None
            self._inner.release()

    def _forsake(self, state: ThreadState) -> None:
        """Undo an acquisition that was interrupted half way."""
        if self._hold is not None and self._hold[0] is state:
            self._hold = None
        with suppress(ValueError):
            state.held.remove(self)
        self._inner.release()

    # what threading.Condition asks of its lock

    def _is_owned(self) -> bool:
        return self.locked() if self._semaphore else self.held()

    def _release_save(self) -> int:
        if not self._is_owned():
            raise RuntimeError("cannot release un-acquired lock")
        count, self._count = self._count, 0
        self.release()
        return count

    def _acquire_restore(self, count: int) -> None:
        self.acquire()
        self._count = count


class TracedRLock(TracedLock):
    """A `threading.RLock` under observation; made by `LockTracer.rlock`.

    Taking it again is no acquisition of its own: neither a hold nor an edge.
    """

    __slots__ = ()

    reentrant = True
