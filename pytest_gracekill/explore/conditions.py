"""Conditions: whoever is notified still has to get the lock."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from pytest_gracekill.explore.locks import Lock
from pytest_gracekill.explore.states import (
    Waiter,
    from_zero,
    made,
    mark,
    methods_of,
    state_of,
    with_article,
)
from pytest_gracekill.explore.tasks import refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.explore.states import Method, State
    from pytest_gracekill.explore.tasks import Task


def methods() -> Iterator[Method]:
    """What stands in for a condition's methods."""
    # it is its lock that is used
    yield made(threading.Condition, seen=True)
    yield from methods_of(threading.Condition, _CONDITION)


def _condition(thing: Any, task: Task) -> tuple[State, Lock]:
    lock = thing._lock  # noqa: SLF001 - it has no other name
    if not isinstance(lock, Lock):
        raise refused(
            f"a Condition over {with_article(type(lock).__name__)} that was made before the"
            f" exploration is used in {task.name}: name it in locks=[(object, 'attribute')]"
        )
    mark(thing)
    return state_of(thing, task, from_zero), lock


def _wait(self: Any, task: Task, timeout: float | None = None) -> bool:
    state, lock = _condition(self, task)
    if lock.owner is not task:
        raise RuntimeError("cannot wait on un-acquired lock")
    run = task.run
    run.perform(task, "waits on", state, state.mask | lock.mask, timed=timeout is not None)
    waiter = Waiter(task)
    state.waiters.append(waiter)
    count = lock.let_go(run)

    def ready() -> bool:
        return waiter.told and lock.owner is None  # type: ignore[return-value]  # asked very often

    mask = state.mask | lock.mask
    if timeout is None:
        task.awaits = state
        run.perform(task, "wakes up from", state, mask, ready)
        task.awaits = None
    else:
        from pytest_gracekill.explore.run import as_ns  # noqa: PLC0415 - it imports us

        deadline = run.now + as_ns(max(timeout, 0.0))
        run.perform(task, "wakes up from", state, mask, ready, deadline, timed=True)
        if not waiter.told:
            state.waiters.remove(waiter)
    if lock.owner is not None:
        if task.waits_for is None:
            task.waits_for, task.since, task.order = lock, run.now, run.performed
        run.perform(task, "acquires", lock, lock.mask, lock.is_free)
    if task.waits_for is not None:
        task.waits_for = None
        if run.now != task.since:
            run.note_wait(lock, task, acquired=True, timed=False)
    lock.take_again(task, run, count)
    return bool(waiter.told)


def _wait_for(
    self: Any, task: Task, predicate: Callable[[], object], timeout: float | None = None
) -> object:
    run = task.run
    end: int | None = None
    left = timeout
    result = predicate()
    while not result:
        if timeout is not None:
            # as threading does it: it waits once in any case
            if end is None:
                end = run.now + round(timeout * 1e9)
                task.timed = True  # it has looked at the clock
            else:
                left = (end - run.now) / 1e9
                if left <= 0:
                    break
        _wait(self, task, left)
        result = predicate()
    return result


def _notify(self: Any, task: Task, n: int = 1) -> None:
    state, lock = _condition(self, task)
    run = task.run
    if run.abandoning:
        return
    if lock.owner is not task:
        raise RuntimeError("cannot notify on un-acquired lock")
    run.perform(task, "notifies", state, state.mask | lock.mask)
    for waiter in state.waiters[:n]:
        waiter.told = 1
        # from now on it is the lock that it waits for
        other = waiter.task
        other.awaits = None
        other.waits_for, other.since, other.order = lock, run.now, run.performed
    del state.waiters[:n]


def _notify_all(self: Any, task: Task) -> None:
    state, _ = _condition(self, task)
    _notify(self, task, len(state.waiters))


_CONDITION: dict[str, Callable[..., object]] = {
    "wait": _wait,
    "wait_for": _wait_for,
    "notify": _notify,
    "notify_all": _notify_all,
    "notifyAll": _notify_all,
}
