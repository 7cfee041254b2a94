"""What is known of a case: its contract, the failure modes that it covers, how long it waits."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_HERE = Path(__file__).parent
_PACKAGE = "pytest_gracekill.conformance."

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A case as its docstring tells it. ``modes`` are names of failure modes."""

    id: str
    contract: str
    modes: tuple[str, ...]
    source: str

    def __str__(self) -> str:
        return f"{self.id}: {self.contract}"


def is_module(path: Path) -> bool:
    """True for a module of cases, as pytest comes to it while collecting."""
    return path.parent == _HERE and path.name.startswith("test_")


def is_case(function: object) -> bool:
    """True for a test of the suite, also where a module of the user's has imported it."""
    return str(getattr(function, "__module__", "")).startswith(_PACKAGE + "test_")


def described(function: Callable[..., object]) -> Case:
    """Read the docstring: the contract in one sentence, then ``Covers:`` and ``Source:``."""
    text = inspect.getdoc(function) or ""
    contract, _, rest = text.partition("\n\n")
    covers = re.search(r"^Covers: (.+?)\.$", rest, re.MULTILINE | re.DOTALL)
    source = re.search(r"^Source: (.+?)\.$", rest, re.MULTILINE | re.DOTALL)
    return Case(
        id=function.__name__.removeprefix("test_"),
        contract=" ".join(contract.split()),
        modes=tuple(" ".join(covers[1].split()).split(", ")) if covers else (),
        source=" ".join(source[1].split()) if source else "",
    )


def waits_full_grace(function: T) -> T:
    """Mark a case that takes all of the promised time."""
    function.gracekill_full_grace = True  # type: ignore[attr-defined] # functions have a __dict__
    return function


def waits_long(function: object) -> bool:
    """Whether a case takes all of the promised time."""
    return getattr(function, "gracekill_full_grace", False)


def longest_first(items: Sequence[T], waits: Callable[[T], bool]) -> list[T]:
    """The order in which cases start: each that waits for long, and a short one behind it.

    pytest-xdist hands out tests in pairs: so each worker begins with a long one.
    """
    long = [item for item in items if waits(item)]
    short = [item for item in items if not waits(item)]
    pairs = [item for pair in zip(long, short, strict=False) for item in pair]
    return [*pairs, *long[len(short) :], *short[len(long) :]]
