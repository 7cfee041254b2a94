"""The arguments of a trial that are neither settings nor knobs: their defaults, and what is right.

A check says what would be right, or None. What an argument needs of the routine is looked at where
the plan is made.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Literal, get_args

from pytest_gracekill.child.handle import FakeQemu
from pytest_gracekill.choreography import POINTS
from pytest_gracekill.driving import ACTS
from pytest_gracekill.routine.adapt import form_of, name_of
from pytest_gracekill.routine.flags import KillFlags
from pytest_gracekill.routine.model import Lookup
from pytest_gracekill.routine.policy import KillPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

#: What success says: the VM is gone, or it has only been requested to stop.
Returns = Literal["gone", "requested"]

#: Seconds; longer than this a request that comes after the return is another trial's business.
_LONGEST_SETTLE = 60.0

#: More callers than this would be a load test.
_MOST_CALLERS = 32


def _flags(value: object) -> str | None:
    whole = int(KillFlags.FORCE | KillFlags.NOWAIT)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= whole:
        return None
    return "KillFlags.FORCE, KillFlags.NOWAIT, both or 0 is needed"


def _policy(value: object) -> str | None:
    return None if value is None or isinstance(value, KillPolicy) else "a KillPolicy is needed"


def _lookup(value: object) -> str | None:
    return (
        None
        if value in get_args(Lookup)
        else f"one of {', '.join(map(repr, get_args(Lookup)))} is needed"
    )


def _succeeded(value: object) -> str | None:
    return None if value is None or callable(value) else "a callable (result -> bool) is needed"


def _vm(value: object) -> str | None:
    if value is None or isinstance(value, FakeQemu):
        return None
    fixture = getattr(value, "__qualname__", "").partition(".")[0]
    if fixture in ("fake_qemu", "real_qemu"):
        return f"that is the fixture, which starts a VM when it is called: vm={fixture}()"
    return "a FakeQemu is needed, as fake_qemu() and real_qemu() return it"


def _contend(value: object) -> str | None:
    right = "a list of callables without parameters is needed, plain ones or coroutine functions"
    if not isinstance(value, list | tuple):
        return right
    fitting = [
        callable(work) and form_of(work) in ("function", "coroutine") and _can_be_called(work)
        for work in value
    ]
    return None if all(fitting) else right


def _at(value: object) -> str | None:
    acts = f"one of {', '.join(map(repr, ACTS))}, or a callable (driver, domain)"
    if not isinstance(value, dict):
        return f"a dict, point to act, is needed; an act is {acts}"
    for point, act in value.items():
        if point not in POINTS:
            return f"{point!r} is no point of a trial; there are {', '.join(map(repr, POINTS))}"
        if callable(act):
            if form_of(act) != "function" or not _can_be_called(act, None, None):
                return f"at {point!r} {acts} is needed, and {name_of(act)} cannot be called so"
        elif not isinstance(act, str) or act not in ACTS:
            return f"at {point!r} {acts} is needed"
    return None


def _can_be_called(work: Callable[..., object], *arguments: object) -> bool:
    try:
        inspect.signature(work).bind(*arguments)
    except ValueError:  # one in C that does not tell
        return True
    except TypeError:
        return False
    return True


def _callers(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_CALLERS:
        return None
    return f"a number of callers from 1 to {_MOST_CALLERS} is needed"


def _returns(value: object) -> str | None:
    kinds = get_args(Returns)
    return None if value in kinds else f"one of {', '.join(map(repr, kinds))} is needed"


def _raises(value: object) -> str | None:
    kinds = value if isinstance(value, tuple) else (value,)
    if all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        return None
    return "an exception class, or a tuple of them, is needed"


def _settle(value: object) -> str | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and 0 <= value <= _LONGEST_SETTLE:  # type: ignore[operator] # a number, as said above
        return None
    return f"seconds from 0 to {_LONGEST_SETTLE:g} are needed"


CHECKS: dict[str, Callable[[object], str | None]] = {
    "vm": _vm,
    "flags": _flags,
    "policy": _policy,
    "contend": _contend,
    "callers": _callers,
    "lookup": _lookup,
    "at": _at,
    "succeeded": _succeeded,
    "returns": _returns,
    "raises": _raises,
    "settle": _settle,
}
DEFAULTS: dict[str, object] = {
    "vm": None,
    "flags": 0,
    "policy": None,
    "contend": (),
    "locks": (),
    "at": {},
    "callers": 1,
    "lookup": "coupled",
    "succeeded": None,
    "returns": "gone",
    "raises": (),
    "settle": 1.0,
}
