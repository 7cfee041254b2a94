"""Semaphores: a counter that is not taken below zero."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from pytest_gracekill.explore.states import await_other, made, methods_of, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.explore.states import Method
    from pytest_gracekill.explore.tasks import Task


def methods() -> Iterator[Method]:
    """What stands in for a semaphore's methods."""
    yield made(threading.Semaphore)
    yield from methods_of(threading.Semaphore, _SEMAPHORE)
    yield made(threading.BoundedSemaphore)
    yield from methods_of(threading.BoundedSemaphore, {"release": _release_bounded})


def _counter(thing: Any) -> int:
    return int(thing._value)  # noqa: SLF001 - what it was before


def _acquire(
    self: Any,
    task: Task,
    blocking: bool = True,  # noqa: FBT001, FBT002 - threading's own signature
    timeout: float | None = None,
) -> bool:
    if not blocking and timeout is not None:
        raise ValueError("can't specify timeout for non-blocking acquire")
    state = state_of(self, task, _counter)

    def positive() -> bool:
        return state.value > 0

    limit = timeout if blocking else 0.0
    taken = await_other(task, "acquires", state, state.mask, positive, limit)
    if taken:
        state.value -= 1
    return taken


def _release(self: Any, task: Task, n: int = 1) -> None:
    _give(self, task, n, None)


def _release_bounded(self: Any, task: Task, n: int = 1) -> None:
    _give(self, task, n, self._initial_value)


def _give(self: Any, task: Task, n: int, most: int | None) -> None:
    if n < 1:
        raise ValueError("n must be one or more")
    state = state_of(self, task, _counter)
    if not task.run.abandoning:
        task.run.perform(task, "releases", state, state.mask)
        if most is not None and state.value + n > most:
            raise ValueError("Semaphore released too many times")
    state.value += n


def _exit(self: Any, _task: Task, *_: object) -> None:
    self.release()


_SEMAPHORE: dict[str, Callable[..., object]] = {
    "acquire": _acquire,
    "release": _release,
    "__enter__": _acquire,
    "__exit__": _exit,
}
