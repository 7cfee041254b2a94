"""``threading.Thread`` for tasks: each public call is one operation."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from pytest_gracekill.explore.states import methods_of, unseen
from pytest_gracekill.explore.tasks import current, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping

    from pytest_gracekill.explore.states import Method
    from pytest_gracekill.explore.tasks import Task

#: Under which name a thread has its task.
_TASK = "_gracekill_task"
#: Under which name it has a bit, for those who look at it before it is started.
_BIT = "_gracekill_bit"


def methods() -> Iterator[Method]:
    """What stands in for a thread's methods."""
    yield threading.Thread, "__init__", _made_thread(threading.Thread.__init__)
    yield from methods_of(threading.Thread, _THREAD)


def replacements() -> Iterator[tuple[object, object]]:
    """A pair: the name, and what stands in for it in a task's thread."""
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

    def ended() -> bool:
        return has_ended(other)

    task.awaits = other if timeout is None else None
    task.run.wait(task, "joins", self.name, other.bit, ended, timeout, reads=True)
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
