"""What a routine wants is told by its parameters' names, whatever kind of callable it is."""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from pytest_gracekill.errors import UsageError
from pytest_gracekill.routine.adapt import FILLED, OFFERED, adapt, form_of, name_of
from pytest_gracekill.routine.external import External

OFFER = {
    "pid": 12,
    "popen": "a Popen",
    "process": "a Process",
    "child": "a Child",
    "driver": "a Driver",
    "domain": "a Domain",
    "flags": 3,
    "policy": "a KillPolicy",
    "grace": 2.5,
    "timeout": 2.5,
}
NOTHING: frozenset[str] = frozenset()


def called(routine: Callable[..., object], *given: str) -> object:
    """What the routine returns when it is called with what it wants of OFFER."""
    return adapt(routine).call(OFFER, frozenset(given))


class Manager:
    """Somebody's manager: its methods, itself and its instances are all callable."""

    def __init__(self, pid: int = 0) -> None:
        self.pid = pid

    def __call__(self, pid: int, timeout: float) -> object:
        return self, pid, timeout

    def stop(self, pid: int) -> object:
        return self, pid

    async def stop_soon(self, pid: int) -> object:
        return self, pid

    @classmethod
    def stop_any(cls, pid: int) -> object:
        return cls, pid

    @staticmethod
    def stop_it(pid: int) -> object:
        return pid

    def managed(self, child: object) -> Iterator[object]:
        yield self, child


class AsyncCall:
    async def __call__(self, pid: int) -> object:
        return pid


@pytest.mark.parametrize("kind", OFFERED)
def test_the_first_parameter_says_what_is_wanted(kind: str) -> None:
    routine = eval(f"lambda {kind}: ({kind!r}, {kind})")
    adapted = adapt(routine)
    assert (adapted.kind, adapted.form) == (kind, "function")
    assert adapted.call(OFFER, NOTHING) == (kind, OFFER[kind])
    assert adapted.starts_the_vm == (kind == "child")


@pytest.mark.parametrize("kind", OFFERED)
@pytest.mark.parametrize("name", FILLED)
def test_what_has_no_default_is_filled_in_by_name(kind: str, name: str) -> None:
    assert called(eval(f"lambda {kind}, {name}: {name}")) == OFFER[name]
    assert called(eval(f"lambda {kind}, *, {name}: {name}")) == OFFER[name]
    assert called(eval(f"lambda {kind}, {name}, /: {name}")) == OFFER[name]


def test_all_of_them_in_any_order() -> None:
    def destroy(pid: int, timeout: float, flags: int, grace: float, policy: object) -> object:
        return pid, timeout, flags, grace, policy

    assert called(destroy) == (12, 2.5, 3, 2.5, "a KillPolicy")


def test_a_default_stands_unless_something_else_was_asked_for() -> None:
    def destroy(pid: int, grace: float = 7, flags: int = 9, colour: str = "red") -> object:
        return grace, flags, colour

    assert called(destroy) == (7, 9, "red")
    assert called(destroy, "flags") == (7, 3, "red")
    assert called(destroy, "flags", "grace") == (2.5, 3, "red")


def test_a_positional_only_default_keeps_its_place() -> None:
    def destroy(pid: int, grace: float = 7, policy: object = None, /) -> object:
        return grace, policy

    assert called(destroy) == (7, None)
    assert called(destroy, "policy") == (7, "a KillPolicy")


def test_what_takes_anything_gets_nothing_more() -> None:
    def destroy(pid: int, *more: object, **others: object) -> object:
        return pid, more, others

    assert called(destroy, "flags", "policy") == (12, (), {})


def test_a_partial_is_its_function() -> None:
    def destroy(pid: int, timeout: float, signal: int) -> object:
        return pid, timeout, signal

    named = functools.partial(functools.partial(destroy, signal=15), timeout=1)
    assert called(named) == (12, 1, 15)
    assert name_of(named) == "destroy"

    def stop(how: str, pid: int) -> object:
        return how, pid

    assert called(functools.partial(stop, "kindly")) == ("kindly", 12)
    with pytest.raises(UsageError, match="'how'"):
        adapt(stop)


def test_methods_instances_and_classes() -> None:
    manager = Manager()
    assert called(manager.stop) == (manager, 12)
    assert called(manager) == (manager, 12, 2.5)
    assert called(Manager.stop_any) == (Manager, 12)
    assert called(Manager.stop_it) == 12
    made = called(Manager, "flags")
    assert isinstance(made, Manager)
    assert made.pid == 0, "a default stands"
    assert [name_of(routine) for routine in (manager.stop, manager, Manager)] == [
        "Manager.stop",
        "Manager",
        "Manager",
    ]


def test_a_function_within_a_test_goes_by_its_own_name() -> None:
    def destroy(pid: int) -> None: ...

    assert name_of(destroy) == "destroy"
    assert str(adapt(destroy)) == "destroy(pid)"


async def coroutine(pid: int) -> None: ...
def generator(child: object) -> Iterator[object]:
    yield child


async def async_generator(child: object) -> AsyncIterator[object]:
    yield child


def hands_on(pid: int) -> Awaitable[None]:
    return coroutine(pid)


@functools.wraps(coroutine)
def wrapped(*args: int) -> int:
    return args[0]


FORMS: list[tuple[Callable[..., object], str]] = [
    (coroutine, "coroutine"),
    (functools.partial(coroutine), "coroutine"),
    (Manager().stop_soon, "coroutine"),
    (AsyncCall(), "coroutine"),
    (generator, "generator"),
    (Manager().managed, "generator"),
    (async_generator, "async generator"),
    (functools.partial(async_generator), "async generator"),
    # nobody can know before they are called
    (hands_on, "function"),
    (wrapped, "function"),
    (Manager, "function"),
]


@pytest.mark.parametrize(("routine", "form"), FORMS, ids=[name_of(routine) for routine, _ in FORMS])
def test_form(routine: Callable[..., object], form: str) -> None:
    adapted = adapt(routine)
    assert adapted.form == form
    assert adapted.asynchronous == form.startswith(("coroutine", "async"))


def test_a_class_is_no_coroutine_because_its_instances_are() -> None:
    assert form_of(AsyncCall) == "function"


def test_an_external_is_known_by_its_type() -> None:
    stopped = adapt(External(stop="kill {pid}"))
    started = adapt(External(start="{program}", stop="kill {pid}"))
    assert (stopped.kind, stopped.form, stopped.starts_the_vm) == ("external", "external", False)
    assert started.starts_the_vm


def wants_vm(vm: object) -> None: ...
def wants_nothing() -> None: ...
def wants_anything(*pids: int) -> None: ...
def pid_then_domain(pid: int, domain: object) -> None: ...
def driver_then_vm(driver: object, vm: object) -> None: ...
def pid_then_popen(pid: int, popen: object) -> None: ...


FIRST = "; on offer are " + "; ".join(f"{name}: {what}" for name, what in OFFERED.items())
THEN = "flags, grace, policy, timeout (or give it a default)"

WRONG: list[tuple[object, str]] = [
    (wants_vm, f"routine wants_vm starts with parameter 'vm'{FIRST}"),
    (wants_nothing, f"routine wants_nothing has no parameter{FIRST}"),
    (wants_anything, f"routine wants_anything has no parameter{FIRST}"),
    (
        Manager.stop,
        f"{{}}self' (hand in the method of an instance){FIRST}",
    ),
    (pid_then_domain, f"{{}}domain', which is not on offer after 'pid'; on offer are {THEN}"),
    (pid_then_popen, f"{{}}popen', which is not on offer after 'pid'; on offer are {THEN}"),
    (
        driver_then_vm,
        f"{{}}vm', which is not on offer after 'driver'; on offer are domain, {THEN}",
    ),
    (os.kill, f"{{}}signal', which is not on offer after 'pid'; on offer are {THEN}"),
    (12, "routine=12: a callable or an External is needed"),
    (None, "routine=None: a callable or an External is needed"),
]


@pytest.mark.parametrize(
    ("routine", "error"), WRONG, ids=[name_of(routine) for routine, _ in WRONG]
)
def test_what_cannot_be_called_is_one_error_with_all_that_is_on_offer(
    routine: object, error: str
) -> None:
    with pytest.raises(UsageError) as caught:
        adapt(routine, "fixture kill_routine")
    name = f"routine {name_of(routine)}"
    error = error.format(
        f"{name} starts with parameter '" if "{}self" in error else f"{name} wants '"
    )
    assert str(caught.value) == f"{error} (from fixture kill_routine)"


def test_a_callable_whose_parameters_nobody_can_read() -> None:
    # implemented in C, and without a text signature
    with pytest.raises(UsageError, match=r"routine type: its parameters cannot be read; wrap it"):
        adapt(type)


@pytest.mark.parametrize("kind", [kind for kind in OFFERED if kind != "child"])
@pytest.mark.parametrize("how", ["", "async "])
def test_a_generator_starts_the_fake_itself(kind: str, how: str) -> None:
    names: dict[str, Callable[..., object]] = {}
    exec(f"{how}def stopping({kind}):\n    yield", names)
    with pytest.raises(UsageError) as caught:
        adapt(names["stopping"])
    assert str(caught.value) == (
        f"routine stopping is a generator with {kind!r}: a generator starts the fake itself, and"
        " its first parameter is 'child' (from the call)"
    )
