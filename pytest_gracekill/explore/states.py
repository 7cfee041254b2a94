"""What an object of ``threading`` or ``queue`` has come to in one schedule, and its methods.

The classes stay what they are, so that subclasses and ``isinstance`` work; their methods do
something else in a task's thread. What an object has come to is kept in it, for one schedule.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from pytest_gracekill.explore.tasks import TASKS, current, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_gracekill.explore.run import Run
    from pytest_gracekill.explore.tasks import Task

#: Class, name of a method, what stands in for it.
Method: TypeAlias = "tuple[type, str, object]"

#: Under which name an object has its state.
_STATE = "_gracekill_state"
#: Under which one the name that it was given.
_NAME = "_gracekill_name"
#: Under which one a queue has what was in it before.
ITEMS = "_gracekill_items"


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

    __slots__ = ("mask", "name", "run", "turn", "value", "waiters")

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
        thing.__dict__[_NAME] = name


def unmark(thing: object) -> None:
    """Forget what an object was named, and came to."""
    items = thing.__dict__.pop(ITEMS, None)
    if items is not None:
        thing.__dict__["queue"] = items
    for name in (_STATE, _NAME):
        thing.__dict__.pop(name, None)


def state_of(thing: Any, task: Task, value: Callable[[Any], int]) -> State:
    """The object's state in this schedule; ``value`` says what it begins with."""
    run = task.run
    attributes = thing.__dict__
    if _STATE not in attributes:
        raise refused(
            f"{with_article(type(thing).__name__)} that was made before the exploration is used in"
            f" {task.name}: name it in locks=[(object, 'attribute')], or make it in the setup"
        )
    state = cast("State | None", attributes[_STATE])
    if state is None or state.run is not run:
        name = attributes.get(_NAME) or f"{type(thing).__name__.lower()}"
        state = attributes[_STATE] = State(run, value(thing), name)
    return state


def with_article(name: str) -> str:
    """A name with its article."""
    return f"{'an' if name[0] in 'AEIO' else 'a'} {name}"


@contextmanager
def unseen() -> Iterator[None]:
    """Be no task for a while: what is made is real, and is no object of the schedule."""
    ident = threading.get_ident()
    task = TASKS.pop(ident)
    try:
        yield
    finally:
        TASKS[ident] = task


def made(kind: type, *, seen: bool = False) -> Method:
    """An ``__init__`` that marks what it makes; ``seen``: what it makes within is simulated."""
    real = vars(kind)["__init__"]

    def __init__(self: object, *arguments: object, **named: object) -> None:  # noqa: N807 - it is one
        task = current()
        if task is None:
            real(self, *arguments, **named)
            return
        with nullcontext() if seen else unseen():
            real(self, *arguments, **named)
        mark(self)

    return kind, "__init__", __init__


def either(real: Any, ours: Callable[..., object]) -> Callable[..., object]:
    """A method that is ours in a task, and the real one elsewhere."""

    def method(self: object, *arguments: object, **named: object) -> object:
        task = current()
        if task is None:
            return real(self, *arguments, **named)
        return ours(self, task, *arguments, **named)

    method.__name__ = real.__name__
    return method


def methods_of(kind: type, own: Mapping[str, Callable[..., object]]) -> Iterator[Method]:
    """Those of its methods that it has in this Python, and what stands in for them."""
    for name, ours in own.items():
        if name in vars(kind):
            yield kind, name, either(vars(kind)[name], ours)


def from_zero(_thing: object) -> int:
    """What begins with nothing."""
    return 0


def await_other(  # noqa: PLR0917 - as Run.wait
    task: Task,
    kind: str,
    what: object,
    mask: int,
    ready: Callable[[], bool],
    limit: float | None,
    *,
    reads: bool = False,
) -> bool:
    """Wait for what another task has to do; without a limit that is told when it never comes."""
    task.awaits = what if limit is None else None
    done = task.run.wait(task, kind, what, mask, ready, limit, reads=reads)
    task.awaits = None
    return done
