"""What a routine wants: the name of its first parameter says it, the rest is filled in by name."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from types import CodeType
from typing import TYPE_CHECKING, Literal

from pytest_gracekill.errors import UsageError
from pytest_gracekill.routine.external import External

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: First parameter -> what the routine gets for it.
OFFERED = {
    "driver": "the model's Driver; then domain and flags",
    "pid": "the pid of a fake that somebody else reaps",
    "popen": "a subprocess.Popen of our own child",
    "process": "a psutil.Process of our own child",
    "child": "the fake, not yet started, for managers that start the process themselves",
}
#: Further parameters that are filled in when they have no default.
FILLED = ("flags", "policy", "grace", "timeout")

Form = Literal["function", "generator", "coroutine", "async generator", "external"]

#: What starts the fake and yields its stop routine.
MANAGERS: tuple[Form, ...] = ("generator", "async generator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """A routine, and what it wants to be called with.

    ``kind`` is the name of its first parameter, or ``"external"``; ``form`` how it is run;
    ``source`` where it came from.
    """

    routine: Callable[..., object] | External
    kind: str
    form: Form
    parameters: Mapping[str, inspect.Parameter]
    source: str

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.parameters)})" if self.parameters else self.name

    @property
    def name(self) -> str:
        return name_of(self.routine)

    @property
    def file(self) -> str | None:
        """The file that the routine's own code is in, as far as it has any."""
        routine: object = self.routine
        while isinstance(routine, partial):
            routine = routine.func
        code = getattr(routine, "__code__", None)
        return code.co_filename if isinstance(code, CodeType) else None

    @property
    def starts_the_vm(self) -> bool:
        """Whether the routine (or its command) starts the VM, rather than getting one that runs."""
        if isinstance(self.routine, External):
            return self.routine.start is not None
        return self.kind == "child"

    @property
    def asynchronous(self) -> bool:
        """Whether it runs in an event loop."""
        return self.form in ("coroutine", "async generator")

    def takes(self, name: str) -> bool:
        """True when the routine has a parameter of this name."""
        return name in self.parameters

    def call(self, offered: Mapping[str, object], given: frozenset[str]) -> object:
        """Call it with what it wants of ``offered``; ``given`` also override a default.

        ``offered`` has a value for every name that :func:`adapt` accepts.
        """
        assert callable(self.routine)
        positional: list[object] = []
        named: dict[str, object] = {}
        for name, parameter in self.parameters.items():
            has_default = parameter.default is not inspect.Parameter.empty
            left_alone = name not in offered or (has_default and name not in given)
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                # its default keeps the place of those that follow
                positional.append(parameter.default if left_alone else offered[name])
            elif not left_alone:
                named[name] = offered[name]
        return self.routine(*positional, **named)


def name_of(routine: object) -> str:
    """The routine's name as people know it."""
    if isinstance(routine, External):
        return str(routine)
    while isinstance(routine, partial):
        routine = routine.func
    name = str(getattr(routine, "__qualname__", None) or type(routine).__qualname__)
    return name.rpartition("<locals>.")[2]


def adapt(routine: object, source: str = "the call") -> Adapted:
    """See what the routine wants.

    :raises UsageError: it cannot be called with anything that is on offer; the text says what is.
    """
    if isinstance(routine, External):
        routine.check(source)
        return Adapted(
            routine=routine, kind="external", form="external", parameters={}, source=source
        )
    if not callable(routine):
        raise UsageError(f"routine={routine!r}: a callable or an External is needed", source=source)
    name = name_of(routine)
    try:
        signature = inspect.signature(routine)
    except (TypeError, ValueError):
        raise UsageError(
            f"routine {name}: its parameters cannot be read; wrap it in a def", source=source
        ) from None
    parameters = {
        parameter.name: parameter
        for parameter in signature.parameters.values()
        if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    }
    offer = "; ".join(f"{first}: {what}" for first, what in OFFERED.items())
    kind = next(iter(parameters), None)
    if kind not in OFFERED:
        first = "has no parameter" if kind is None else f"starts with parameter {kind!r}"
        hint = " (hand in the method of an instance)" if kind == "self" else ""
        raise UsageError(f"routine {name} {first}{hint}; on offer are {offer}", source=source)
    fillable = {kind, *FILLED, *(("domain",) if kind == "driver" else ())}
    for parameter in parameters.values():
        has_default = parameter.default is not inspect.Parameter.empty
        if parameter.name not in fillable and not has_default:
            raise UsageError(
                f"routine {name} wants {parameter.name!r}, which is not on offer after {kind!r};"
                f" on offer are {', '.join(sorted(fillable - {kind}))} (or give it a default)",
                source=source,
            )
    form = form_of(routine)
    if form not in MANAGERS and form_of(inspect.unwrap(routine)) in MANAGERS:
        raise UsageError(
            f"routine {name} is a generator function behind a decorator, such as contextmanager:"
            " hand in the function without it",
            source=source,
        )
    if form in MANAGERS and kind != "child":
        raise UsageError(
            f"routine {name} is a generator with {kind!r}: a generator starts the fake itself, and"
            " its first parameter is 'child'",
            source=source,
        )
    return Adapted(routine=routine, kind=kind, form=form, parameters=parameters, source=source)


def form_of(routine: Callable[..., object]) -> Form:
    """How a callable is run; an instance goes by its ``__call__``, a partial by its function."""
    while isinstance(routine, partial):
        routine = routine.func
    # calling a class makes an instance, whatever calling that does
    called = None if isinstance(routine, type) else getattr(routine, "__call__", None)  # noqa: B004 - its function
    for candidate in (routine, called):
        if inspect.isasyncgenfunction(candidate):
            return "async generator"
        if inspect.isgeneratorfunction(candidate):
            return "generator"
        if inspect.iscoroutinefunction(candidate):
            return "coroutine"
    return "function"
