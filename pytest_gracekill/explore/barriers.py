"""Barriers: nobody goes on before all have come."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from pytest_gracekill.explore.states import (
    Waiter,
    await_other,
    either,
    from_zero,
    made,
    methods_of,
    state_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.explore.states import Method, State
    from pytest_gracekill.explore.tasks import Task


def methods() -> Iterator[Method]:
    """What stands in for a barrier's methods and properties."""
    yield made(threading.Barrier)
    yield from methods_of(threading.Barrier, _BARRIER)
    for name, ours in _BARRIER_LOOKS.items():
        real = vars(threading.Barrier)[name]
        yield threading.Barrier, name, property(either(real.fget, ours))


def _pass(self: Any, task: Task, timeout: float | None = None) -> int:
    state = state_of(self, task, from_zero)
    run = task.run

    def has_room() -> bool:
        # while the last one does its action the others are still in front of it
        return bool(state.value < self._parties or state.turn < 0)

    limit = self._timeout if timeout is None else timeout
    run.perform(task, "comes to", state, state.mask, has_room, timed=limit is not None)
    if state.turn < 0:
        raise threading.BrokenBarrierError
    place = state.value
    state.value += 1
    if state.value == self._parties:
        try:
            if self._action is not None:
                self._action()
        except BaseException:
            _dismiss(state, -1)
            state.turn = -1
            raise
        _dismiss(state, 1)
        return place
    waiter = Waiter(task)
    state.waiters.append(waiter)

    def told() -> bool:
        return bool(waiter.told)

    if not await_other(task, "waits at", state, state.mask, told, limit):
        state.turn = -1
        _dismiss(state, -1)
        raise threading.BrokenBarrierError
    if waiter.told < 0:
        raise threading.BrokenBarrierError
    return place


def _dismiss(state: State, told: int) -> None:
    """Nobody stands before a barrier any more."""
    for waiter in state.waiters:
        waiter.told = told
    state.waiters.clear()
    state.value = 0


def _put_turn(turn: int, kind: str) -> Callable[..., object]:
    def put(self: Any, task: Task) -> None:
        state = state_of(self, task, from_zero)
        if not task.run.abandoning:
            task.run.perform(task, kind, state, state.mask)
        state.turn = turn
        _dismiss(state, -1)

    return put


def _at_barrier(result: Callable[[State], object]) -> Callable[..., object]:
    def look(self: Any, task: Task) -> object:
        state = state_of(self, task, from_zero)
        task.run.perform(task, "looks at", state, state.mask, reads=True)
        return result(state)

    return look


_BARRIER: dict[str, Callable[..., object]] = {
    "wait": _pass,
    "abort": _put_turn(-1, "breaks"),
    "reset": _put_turn(0, "resets"),
}
_BARRIER_LOOKS: dict[str, Callable[..., object]] = {
    "n_waiting": _at_barrier(lambda state: state.value),
    "broken": _at_barrier(lambda state: state.turn < 0),
}
