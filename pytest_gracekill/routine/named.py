"""A routine that is named from outside of a test: ``module:name``, or a command that stops a VM."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

from pytest_gracekill import settings
from pytest_gracekill.errors import UsageError
from pytest_gracekill.routine.adapt import adapt
from pytest_gracekill.routine.external import External

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_gracekill.settings import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """The routine, and the option, variable or ini option that has named it."""

    routine: Callable[..., object] | External
    source: str

    def __str__(self) -> str:
        return f"{adapt(self.routine)} (from {self.source})"


def named(routine: Value, stop: Value, root: Path) -> Named:
    """The one that was named; with both, the one from the stronger source.

    A module is looked for in ``root`` first, as ``python -m`` would look in the current folder; the
    folder stays on ``sys.path``, for what the module imports later.

    :raises UsageError: it is not there, cannot be used as a routine, or both were named at once.
    """
    rank = settings.strength(routine), settings.strength(stop)
    if rank[0] == rank[1]:
        raise UsageError(
            f"routine={routine.value} and stop={stop.value!r}: one of them is needed",
            source=f"{routine.source}, {stop.source}",
        )
    value = max(routine, stop, key=settings.strength)
    found = _imported(value, root) if value is routine else External(stop=str(value.value))
    adapt(found, value.source)
    return Named(routine=found, source=value.source)


def _imported(value: Value, root: Path) -> Callable[..., object]:
    module_name, _, path = str(value.value).partition(":")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        found: object = import_module(module_name)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name is not None
        if missing and f"{module_name}.".startswith(f"{error.name}."):  # type: ignore[attr-defined] # narrowed by missing
            why = f"there is no module {module_name!r}, neither installed nor below {root}"
        else:
            why = f"importing {module_name} raised {type(error).__name__}: {error}"
        raise UsageError(f"routine={value.value}: {why}", source=value.source) from error
    for name in path.split("."):
        there = [other for other in dir(found) if not other.startswith("_")]
        if not hasattr(found, name):
            close = get_close_matches(name, there, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(there)}"
            raise UsageError(
                f"routine={value.value}: {module_name} has no {name!r}; {hint}", source=value.source
            )
        found = getattr(found, name)
    if not callable(found) and not isinstance(found, External):
        raise UsageError(
            f"routine={value.value}: it is a {type(found).__name__}; a callable or an External is"
            " needed",
            source=value.source,
        )
    return found  # type: ignore[return-value] # an External is welcome, too
