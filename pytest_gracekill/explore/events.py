"""Events: a flag that is waited for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from pytest_gracekill.explore.states import await_other, made, methods_of, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.explore.states import Method
    from pytest_gracekill.explore.tasks import Task


def methods() -> Iterator[Method]:
    """What stands in for an event's methods."""
    yield made(threading.Event)
    yield from methods_of(threading.Event, _EVENT)


def _flag(thing: Any) -> int:
    return int(thing._flag)  # noqa: SLF001 - what it was before


def _is_set(self: Any, task: Task) -> bool:
    state = state_of(self, task, _flag)
    task.run.perform(task, "looks at", state, state.mask, reads=True)
    return bool(state.value)


def _put_flag(value: int, kind: str) -> Callable[..., object]:
    def put(self: Any, task: Task) -> None:
        state = state_of(self, task, _flag)
        if not task.run.abandoning:
            task.run.perform(task, kind, state, state.mask)
        state.value = value

    return put


def _await_flag(self: Any, task: Task, timeout: float | None = None) -> bool:
    state = state_of(self, task, _flag)

    def is_set() -> bool:
        return bool(state.value)

    return await_other(task, "waits for", state, state.mask, is_set, timeout, reads=True)


_EVENT: dict[str, Callable[..., object]] = {
    "is_set": _is_set,
    "isSet": _is_set,
    "set": _put_flag(1, "sets"),
    "clear": _put_flag(0, "clears"),
    "wait": _await_flag,
}
