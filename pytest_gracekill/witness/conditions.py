"""Conditions whose waits are watched: one that nobody can end any more is broken up.

Only a wait without a timeout is. It does what `threading.Condition.wait` does, and looks up from
time to time (`dead_end` says for what); its place among the waiters stays. When it is broken up,
the lock is taken again as ever, and DeadlockDetected raised.

Not watched: a condition whose class has a `wait` of its own, and waits that began before.
"""
# ruff: noqa: SLF001 - waiters and saved state, which threading names nowhere in public

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from pytest_gracekill.clock import monotonic_ns
from pytest_gracekill.witness.dead_end import (
    LOOK,
    NotifierGone,
    all_blocked,
    ended_names,
)
from pytest_gracekill.witness.sites import calling_site, current_stack, frames_of
from pytest_gracekill.witness.wait_graph import Awaiting, DeadlockDetected, Waiting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_gracekill.witness.locks import LockTracer
    from pytest_gracekill.witness.traced_lock import TracedLock
    from pytest_gracekill.witness.wait_graph import ThreadState

#: Threads that are named in a report, when many have ended.
_NAMED = 8


class Watched:
    """The watched wait of one condition, over a traced lock."""

    def __init__(self, tracer: LockTracer, condition: threading.Condition, name: str) -> None:
        self.name = name
        self._tracer = tracer
        self._condition: Any = condition

    def wait(self, timeout: float | None = None) -> bool:
        """Wait as `threading.Condition.wait` does.

        :raises DeadlockDetected: nobody is left who could notify; the lock is held.
        """
        tracer, condition = self._tracer, self._condition
        if timeout is not None or not tracer.active:
            return threading.Condition.wait(condition, timeout)
        if not condition._is_owned():
            raise RuntimeError("cannot wait on un-acquired lock")
        waiter = threading.Lock()
        waiter.acquire()
        condition._waiters.append(waiter)
        saved = condition._release_save()
        state = tracer.threads.state
        # a signal handler may wait while its own thread does
        interrupted = state.awaiting
        notified = False
        try:
            state.awaiting = Awaiting(self.name, waiter, monotonic_ns(), calling_site())
            notified = self._until_notified(state, state.awaiting)
        finally:
            state.awaiting = interrupted
            condition._acquire_restore(saved)
            if not notified:
                with suppress(ValueError):
                    condition._waiters.remove(waiter)
        return notified

    def _until_notified(self, state: ThreadState, awaiting: Awaiting) -> bool:
        tracer = self._tracer
        before: Mapping[ThreadState, Waiting | Awaiting] | None = None
        while tracer.active:
            if awaiting.waiter.acquire(timeout=LOOK):
                return True
            now = all_blocked(list(tracer.known))
            if now is not None and _same(now, before):
                self._raise_if_still(now, state, awaiting)
            before = now
        return awaiting.waiter.acquire()

    def _raise_if_still(
        self,
        blocked: Mapping[ThreadState, Waiting | Awaiting],
        state: ThreadState,
        awaiting: Awaiting,
    ) -> None:
        tracer = self._tracer
        with tracer.mutex:
            # another victim may have been chosen meanwhile, and goes on
            known = list(tracer.known)
            if not tracer.active or not _same(blocked, all_blocked(known)):
                return
            found = NotifierGone(
                condition=self.name,
                thread=state.name,
                waiting_since_ns=awaiting.since_ns,
                waiting_at=current_stack(state.ident) or frames_of(awaiting.site),
                blocked=tuple(
                    f"{other.name} waits {_for(wait)}"
                    for other, wait in blocked.items()
                    if other is not state
                ),
                ended=ended_names(known)[-_NAMED:],
                at_ns=monotonic_ns(),
            )
            tracer.deadlocks.append(found)
            state.awaiting = None
        raise DeadlockDetected(found)


class TracedCondition(threading.Condition):
    """A `threading.Condition` over a traced lock; made by `LockTracer.condition`."""

    def __init__(self, tracer: LockTracer, name: str, lock: TracedLock) -> None:
        # it takes anything with acquire and release; typeshed says Lock or RLock
        super().__init__(cast("threading.Lock", lock))
        self.name = name
        self.wait = Watched(tracer, self, name).wait  # type: ignore[method-assign]


def is_plain(condition: threading.Condition) -> bool:
    """Whether a condition waits in threading's own way."""
    return type(condition).wait is threading.Condition.wait and "wait" not in vars(condition)


def _for(wait: Waiting | Awaiting) -> str:
    if isinstance(wait, Awaiting):
        return f"on the condition {wait.condition}"
    return f"for {wait.lock.name}"


def _same(
    one: Mapping[ThreadState, Waiting | Awaiting],
    other: Mapping[ThreadState, Waiting | Awaiting] | None,
) -> bool:
    return (
        other is not None
        and one.keys() == other.keys()
        and all(wait is other[state] for state, wait in one.items())
    )
