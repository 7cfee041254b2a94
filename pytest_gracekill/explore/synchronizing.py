"""Conditions, events, semaphores and barriers of ``threading``: their own methods, for tasks.

The classes stay what they are, so that subclasses and ``isinstance`` work; their methods do
something else in a task's thread. What an object has come to is kept in it, for one schedule.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from pytest_gracekill.explore.locks import Lock, RLock
from pytest_gracekill.explore.tasks import TASKS, current, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.explore.run import Run
    from pytest_gracekill.explore.tasks import Task

#: Class, name of a method, what stands in for it.
Method: TypeAlias = "tuple[type, str, object]"

#: Under which name an object has its state.
_STATE = "_gracekill_state"


class Waiter:
    """A task that waits until another one does something about it.

    :ivar told: what that is: 0 nothing yet, 1 it is notified, or let through, -1 turned away.
    """

    __slots__ = ("task", "told")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.told = 0


class State:
    """What an object has come to in one schedule.

    :ivar value: an event's flag, a semaphore's counter, how many stand before a barrier.
    :ivar waiters: who waits to be notified.
    """

    __slots__ = ("kind", "mask", "name", "run", "turn", "value", "waiters")

    def __init__(self, run: Run, value: int, name: str) -> None:
        self.run = run
        self.mask = run.new_bit()
        self.value = value
        self.turn = 0
        self.name = name
        self.waiters: list[Waiter] = []

    def __str__(self) -> str:
        return self.name


def mark(thing: object, name: str | None = None) -> None:
    """Take an object for one that is simulated: it was made in a schedule, or was named."""
    thing.__dict__.setdefault(_STATE, None)
    if name is not None:
        thing.__dict__["_gracekill_name"] = name


def unmark(thing: object) -> None:
    """Forget what an object was named, and came to."""
    items = thing.__dict__.pop("_gracekill_items", None)
    if items is not None:
        thing.__dict__["queue"] = items
    for name in (_STATE, "_gracekill_name"):
        thing.__dict__.pop(name, None)


def state_of(thing: Any, task: Task, value: Callable[[Any], int]) -> State:
    """The object's state in this schedule; ``value`` says what it begins with."""
    run = task.run
    attributes = thing.__dict__
    if _STATE not in attributes:
        raise refused(
            f"{_a(type(thing).__name__)} that was made before the exploration is used in"
            f" {task.name}: name it in locks=[(object, 'attribute')], or make it in the setup"
        )
    state = cast("State | None", attributes[_STATE])
    if state is None or state.run is not run:
        name = attributes.get("_gracekill_name") or f"{type(thing).__name__.lower()}"
        state = attributes[_STATE] = State(run, value(thing), name)
    return state


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'AEIO' else 'a'} {name}"


def _made(kind: type) -> Callable[..., None]:
    real = vars(kind)["__init__"]

    def __init__(self: object, *arguments: object, **named: object) -> None:  # noqa: N807 - it is one
        task = current()
        if task is None:
            real(self, *arguments, **named)
            return
        if kind is threading.Condition:
            real(self, *arguments, **named)  # whose lock is used
        else:
            with unseen():
                real(self, *arguments, **named)
        mark(self)

    return __init__


@contextmanager
def unseen() -> Iterator[None]:
    """Be no task for a while: what is made is real, and is no object of the schedule."""
    ident = threading.get_ident()
    task = TASKS.pop(ident)
    try:
        yield
    finally:
        TASKS[ident] = task


def methods() -> Iterator[Method]:
    """Every method that is replaced while an exploration runs."""
    for kind, own in (
        (threading.Condition, _CONDITION),
        (threading.Event, _EVENT),
        (threading.Semaphore, _SEMAPHORE),
        (threading.BoundedSemaphore, {"release": _release_bounded}),
        (threading.Barrier, _BARRIER),
    ):
        if "__init__" in vars(kind):
            yield kind, "__init__", _made(kind)
        for name, ours in own.items():
            yield kind, name, either(vars(kind)[name], ours)
    for name, ours in _BARRIER_LOOKS.items():
        real = vars(threading.Barrier)[name]
        yield threading.Barrier, name, property(either(real.fget, ours))


def either(real: Any, ours: Callable[..., object]) -> Callable[..., object]:
    """A method that is ours in a task, and the real one elsewhere."""

    def method(self: object, *arguments: object, **named: object) -> object:
        task = current()
        if task is None:
            return real(self, *arguments, **named)
        return ours(self, task, *arguments, **named)

    method.__name__ = real.__name__
    return method


def _zero(_thing: object) -> int:
    return 0


# -- conditions


def _condition(thing: Any, task: Task) -> tuple[State, Lock]:
    lock = thing._lock  # noqa: SLF001 - it has no other name
    if not isinstance(lock, Lock):
        raise refused(
            f"a Condition over {_a(type(lock).__name__)} that was made before the exploration is"
            f" used in {task.name}: name it in locks=[(object, 'attribute')]"
        )
    thing.__dict__.setdefault(_STATE, None)
    return state_of(thing, task, _zero), lock


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


# -- events


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

    task.awaits = state if timeout is None else None
    found = task.run.wait(task, "waits for", state, state.mask, is_set, timeout, reads=True)
    task.awaits = None
    return found


_EVENT: dict[str, Callable[..., object]] = {
    "is_set": _is_set,
    "isSet": _is_set,
    "set": _put_flag(1, "sets"),
    "clear": _put_flag(0, "clears"),
    "wait": _await_flag,
}


# -- semaphores


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

    task.awaits = state if blocking and timeout is None else None
    limit = timeout if blocking else 0.0
    taken = task.run.wait(task, "acquires", state, state.mask, positive, limit)
    task.awaits = None
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


# -- barriers


def _pass(self: Any, task: Task, timeout: float | None = None) -> int:
    state = state_of(self, task, _zero)
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

    task.awaits = state if limit is None else None
    passed = run.wait(task, "waits at", state, state.mask, told, limit)
    task.awaits = None
    if not passed:
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
        state = state_of(self, task, _zero)
        if not task.run.abandoning:
            task.run.perform(task, kind, state, state.mask)
        state.turn = turn
        _dismiss(state, -1)

    return put


def _at_barrier(result: Callable[[State], object]) -> Callable[..., object]:
    def look(self: Any, task: Task) -> object:
        state = state_of(self, task, _zero)
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


def simulated_locks() -> Iterator[tuple[object, object]]:
    """Pairs of threading's locks and what makes ours: in a task's thread only."""
    yield threading.Lock, _maker(threading.Lock, Lock)
    yield threading.RLock, _maker(threading.RLock, RLock)


def _maker(real: Any, ours: Callable[[], object]) -> Callable[..., object]:
    def make(*arguments: object, **named: object) -> object:
        return real(*arguments, **named) if current() is None else ours()

    make.__name__ = real.__name__
    return make
