"""A routine whose every call is made within a context of the suite's, otherwise unchanged.

``context(first)`` gets what the routine's first parameter is: the pid, the Popen, the child.
"""

from __future__ import annotations

import functools
import subprocess
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_gracekill import clock
from pytest_gracekill.child.mark import state
from pytest_gracekill.routine.adapt import form_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractContextManager

    from pytest_gracekill.child.unstarted import Child
    from pytest_gracekill.routine.adapt import Adapted

    Context: TypeAlias = "Callable[[object], AbstractContextManager[object]]"


#: Seconds that a killed process has to go.
_DEAD_WITHIN = 10.0


def around(adapted: Adapted, context: Context) -> Callable[..., object]:
    """The routine of the same form and with the same parameters; of a manager only its stop."""
    routine: Any = adapted.routine
    wrap = {
        "function": _function,
        "coroutine": _coroutine,
        "generator": _generator,
        "async generator": _async_generator,
    }[adapted.form]
    wrapped = functools.wraps(routine, updated=())(wrap(routine, context, adapted.kind))
    # also of what has no name of its own, such as a partial
    wrapped.__qualname__ = adapted.name
    return wrapped


def _first(arguments: tuple[object, ...], named: dict[str, object], kind: str) -> object:
    return arguments[0] if arguments else named[kind]


def _function(routine: Any, context: Context, kind: str) -> Callable[..., object]:
    def function(*arguments: object, **named: object) -> object:
        with context(_first(arguments, named, kind)):
            return routine(*arguments, **named)

    return function


def _coroutine(routine: Any, context: Context, kind: str) -> Callable[..., object]:
    async def coroutine(*arguments: object, **named: object) -> object:
        with context(_first(arguments, named, kind)):
            return await routine(*arguments, **named)

    return coroutine


def _generator(routine: Any, context: Context, kind: str) -> Callable[..., object]:
    def generator(*arguments: object, **named: object) -> Iterator[object]:
        steps = routine(*arguments, **named)
        for yielded in steps:
            yield _within(yielded, context, _first(arguments, named, kind))

    return generator


def _async_generator(routine: Any, context: Context, kind: str) -> Callable[..., object]:
    async def generator(*arguments: object, **named: object) -> AsyncIterator[object]:
        steps = routine(*arguments, **named)
        async for yielded in steps:
            yield _within(yielded, context, _first(arguments, named, kind))

    return generator


def _within(yielded: object, context: Context, first: object) -> object:
    """What a manager yields, with its stop made within the context."""
    match yielded:
        case (stop, status):
            return _stop(stop, context, first), status
        case stop:
            return _stop(stop, context, first)


def _stop(stop: Any, context: Context, first: object) -> object:
    if not callable(stop):
        return stop  # the harness says what is wrong with that
    wrap = _coroutine if form_of(stop) == "coroutine" else _function
    wrapped = wrap(lambda _first: stop(), lambda _: context(first), "")
    return functools.partial(wrapped, None)


def around_death(adapted: Adapted) -> Callable[..., object]:
    """The same manager, whose VM is SIGKILLed by another process between its start and its stop."""
    routine: Any = adapted.routine

    def generator(child: Any, *more: object, **named: object) -> Iterator[object]:
        for yielded in routine(child, *more, **named):
            _die(child)
            yield yielded

    async def async_generator(child: Any, *more: object, **named: object) -> AsyncIterator[object]:
        async for yielded in routine(child, *more, **named):
            _die(child)
            yield yielded

    wrapped = generator if adapted.form == "generator" else async_generator
    return functools.wraps(routine, updated=())(wrapped)


def _die(child: Child) -> None:
    child.wait_ready()
    pid = child.pid
    # by a command: a signal from here would count as the routine's
    subprocess.run(["kill", "-KILL", str(pid)], check=True)
    deadline = clock.monotonic() + _DEAD_WITHIN
    while state(pid) not in ("", "Z"):
        if clock.monotonic() > deadline:
            raise TimeoutError(f"pid {pid} is there {_DEAD_WITHIN:g} s after SIGKILL")
        time.sleep(0.005)
