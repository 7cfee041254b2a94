"""``threading.Thread`` and ``queue`` for tasks: each public call is one operation."""

from __future__ import annotations

import copy
import queue
import sys
import threading
from typing import TYPE_CHECKING, Any

from pytest_gracekill.explore.synchronizing import either, mark, state_of, unseen
from pytest_gracekill.explore.tasks import current, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping

    from pytest_gracekill.explore.synchronizing import Method, State
    from pytest_gracekill.explore.tasks import Task

#: Under which name a thread has its task.
_TASK = "_gracekill_task"
#: Under which name it has a bit, for those who look at it before it is started.
_BIT = "_gracekill_bit"
#: Under which name a queue has what was in it before.
_ITEMS = "_gracekill_items"


def methods() -> Iterator[Method]:
    """Every method that is replaced while an exploration runs."""
    yield threading.Thread, "__init__", _made_thread(threading.Thread.__init__)
    for name, ours in _THREAD.items():
        yield threading.Thread, name, either(vars(threading.Thread)[name], ours)
    yield queue.Queue, "__init__", _made_queue(queue.Queue.__init__)
    for name, own in _QUEUE.items():
        if name in vars(queue.Queue):
            yield queue.Queue, name, either(vars(queue.Queue)[name], own)


def replacements() -> Iterator[tuple[object, object]]:
    """Pairs of a name and what stands in for it: in a task's thread only."""
    real = queue.SimpleQueue

    def simple_queue() -> object:
        return real() if current() is None else queue.Queue()

    yield real, simple_queue
    real_current = threading.current_thread

    def current_thread() -> threading.Thread:
        task = current()
        if task is None:
            return real_current()
        if task.thread is None:
            task.thread = threading.Thread(name=task.name, daemon=False)
            _belongs_to(task.thread, task)
        return task.thread

    yield real_current, current_thread


# -- threads


def _made_thread(real: Callable[..., None]) -> Callable[..., None]:
    def __init__(  # noqa: N807, PLR0917 - it is one, with threading's own signature
        self: Any,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
        **more: Any,
    ) -> None:
        task = current()
        if task is None:
            real(self, group, target, name, args, kwargs, daemon=daemon, **more)
            return
        if name is None:
            # threading counts on from schedule to schedule
            task.run.unnamed_threads += 1
            name = f"Thread-{task.run.unnamed_threads}"
            if target is not None:
                name += f" ({getattr(target, '__name__', target)})"
        if daemon is None:
            daemon = task.daemon
        with unseen():
            real(self, group, target, name, args, kwargs, daemon=daemon, **more)
        self._started.is_set = lambda: _TASK in self.__dict__
        self.__dict__[_BIT] = task.run.new_bit()

    return __init__


def _belongs_to(thread: Any, task: Task) -> None:
    thread.__dict__[_TASK] = task
    if task.worker is not None:
        thread._ident = task.worker.thread.ident  # noqa: SLF001 - what get_ident() says there


def _start(self: Any, task: Task) -> None:
    run = task.run
    if not getattr(self, "_initialized", False):
        raise RuntimeError("thread.__init__() not called")
    run.perform(task, "starts", self.name, self.__dict__.get(_BIT, 0))
    if self.ident is not None:
        raise RuntimeError("threads can only be started once")
    begun = run.add(self.name, self.run)
    begun.thread = self
    begun.daemon = self.daemon
    _belongs_to(self, begun)


def _task_of(self: Any) -> Task | None:
    task: Task | None = self.__dict__.get(_TASK)
    if task is None and self.ident is not None:
        raise refused(f"thread {self.name} was started outside of the exploration")
    return task


def _join(self: Any, task: Task, timeout: float | None = None) -> None:
    other = _task_of(self)
    if other is None:
        _look(self, task)
        other = _task_of(self)
    if other is None:
        raise RuntimeError("cannot join thread before it is started")
    if other is task:
        raise RuntimeError("cannot join current thread")
    run = task.run

    def ended() -> bool:
        return has_ended(other)

    task.awaits = other if timeout is None else None
    run.wait(task, "joins", self.name, other.bit, ended, timeout, reads=True)
    task.awaits = None


def forget_in_executors() -> None:
    """Have no executor wait for a thread that was one of an exploration when Python ends."""
    module = sys.modules.get("concurrent.futures.thread")
    waited_for: MutableMapping[threading.Thread, object] = getattr(module, "_threads_queues", {})
    for thread in list(waited_for):
        if _TASK in vars(thread):
            del waited_for[thread]


def has_ended(task: Task) -> bool:
    """Whether a task has nothing more to do."""
    return all(task is not one for one in task.run.live)


def _is_alive(self: Any, task: Task) -> bool:
    other = _task_of(self)
    if other is None:
        _look(self, task)
        other = _task_of(self)
        if other is not None:
            task.look(other.bit)
    else:
        task.run.perform(task, "looks at", self.name, other.bit, reads=True)
    return other is not None and not has_ended(other)


def _look(self: Any, task: Task) -> None:
    """Look at one that has not been started yet."""
    task.run.perform(task, "looks at", self.name, self.__dict__.get(_BIT, 0), reads=True)


def _shown(self: Any, _task: Task) -> str:
    """Its name; what the real one tells is more, and needs an operation."""
    return f"<{type(self).__name__}({self.name})>"


_THREAD: dict[str, Callable[..., object]] = {
    "start": _start,
    "join": _join,
    "is_alive": _is_alive,
    "__repr__": _shown,
}


# -- queues


def _made_queue(real: Callable[..., None]) -> Callable[..., None]:
    def __init__(self: Any, maxsize: int = 0) -> None:  # noqa: N807 - it is one
        if current() is None:
            real(self, maxsize)
            return
        with unseen():
            real(self, maxsize)
        mark(self)

    return __init__


def _state(self: Any, task: Task) -> State:
    return state_of(self, task, _begins_with)


def _begins_with(made: Any) -> int:
    """Have what was in a queue when it was named, in each schedule."""
    before = made.__dict__.setdefault(_ITEMS, copy.copy(made.queue))
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
    limit = timeout if block else 0.0
    task.awaits = state if limit is None else None
    done = task.run.wait(task, kind, state, state.mask, ready, limit)
    task.awaits = None
    return done


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
