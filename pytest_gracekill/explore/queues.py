"""Queues: each public call is one operation."""

from __future__ import annotations

import copy
import queue
from typing import TYPE_CHECKING, Any

from pytest_gracekill.explore.states import ITEMS, await_other, made, methods_of, state_of
from pytest_gracekill.explore.tasks import current, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.explore.states import Method, State
    from pytest_gracekill.explore.tasks import Task


def methods() -> Iterator[Method]:
    """What stands in for a queue's methods."""
    yield made(queue.Queue)
    yield from methods_of(queue.Queue, _QUEUE)


def replacements() -> Iterator[tuple[object, object]]:
    """A pair: the queue that is made in C, and what makes another one in a task's thread."""
    real = queue.SimpleQueue

    def simple_queue() -> object:
        return real() if current() is None else queue.Queue()

    yield real, simple_queue


def _state(self: Any, task: Task) -> State:
    return state_of(self, task, _begins_with)


def _begins_with(made: Any) -> int:
    """Have what was in a queue when it was named, in each schedule."""
    before = made.__dict__.setdefault(ITEMS, copy.copy(made.queue))
    made.queue = copy.copy(before)
    return int(made.unfinished_tasks)


def _put(
    self: Any,
    task: Task,
    item: object,
    block: bool = True,  # noqa: FBT001, FBT002 - queue's own signature
    timeout: float | None = None,
) -> None:
    state = _state(self, task)

    def has_room() -> bool:
        return bool(self.maxsize <= 0 or self._qsize() < self.maxsize)

    if not _awaited(task, state, "puts into", has_room, block=block, timeout=timeout):
        raise queue.Full
    self._put(item)
    state.value += 1


def _get(
    self: Any,
    task: Task,
    block: bool = True,  # noqa: FBT001, FBT002 - queue's own signature
    timeout: float | None = None,
) -> object:
    state = _state(self, task)

    def has_some() -> bool:
        return bool(self._qsize())

    if not _awaited(task, state, "gets from", has_some, block=block, timeout=timeout):
        raise queue.Empty
    item: object = self._get()
    return item


def _awaited(
    task: Task,
    state: State,
    kind: str,
    ready: Callable[[], bool],
    *,
    block: bool,
    timeout: float | None,
) -> bool:
    if block and timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return await_other(task, kind, state, state.mask, ready, timeout if block else 0.0)


def _done(self: Any, task: Task) -> None:
    state = _state(self, task)
    if task.run.abandoning:
        return
    task.run.perform(task, "has done one of", state, state.mask)
    if state.value <= 0:
        raise ValueError("task_done() called too many times")
    state.value -= 1


def _join_queue(self: Any, task: Task) -> None:
    state = _state(self, task)

    def all_done() -> bool:
        return state.value == 0

    _awaited(task, state, "joins", all_done, block=True, timeout=None)


def _size(self: Any, task: Task) -> int:
    state = _state(self, task)
    task.run.perform(task, "looks at", state, state.mask, reads=True)
    return int(self._qsize())


def _shutdown(_self: object, _task: Task, **_: object) -> None:
    raise refused("Queue.shutdown() is not simulated in an exploration")


_QUEUE: dict[str, Callable[..., object]] = {
    "put": _put,
    "get": _get,
    "put_nowait": lambda self, task, item: _put(self, task, item, block=False),
    "get_nowait": lambda self, task: _get(self, task, block=False),
    "task_done": _done,
    "join": _join_queue,
    "qsize": _size,
    "empty": lambda self, task: not _size(self, task),
    "full": lambda self, task: 0 < self.maxsize <= _size(self, task),
    "shutdown": _shutdown,
}
