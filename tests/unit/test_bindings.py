"""Names that are bound to something else for a while, and code that patches them meanwhile.

What the modules have at the end is compared with modules in which nothing was ever replaced, and to
which the same was done.
"""

from __future__ import annotations

import random
import sys
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gracekill.witness.bindings import put_back, replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def original() -> str:
    return "original"


def unrelated() -> str:
    return "unrelated"


def standing_in() -> Callable[[], str]:
    """A new one for each use, as in each trial."""

    def stands_in() -> str:
        return "stands in"

    return stands_in


NAMES = ("send", "kill", "other")
MODULES = 6


class World:
    """Some modules, and patches of their names: each has what was there before it."""

    def __init__(self, prefix: str) -> None:
        self.modules = [ModuleType(f"{prefix}_{number}") for number in range(MODULES)]
        for module in self.modules:
            sys.modules[module.__name__] = module
        self.patches: dict[int, tuple[ModuleType, str, object]] = {}

    def content(self) -> list[dict[str, object]]:
        return [{n: v for n, v in vars(m).items() if n in NAMES} for m in self.modules]

    def step(self, choice: random.Random, patch: Callable[[], str], number: int) -> None:
        """Do something; the same for the same state of ``choice``."""
        module, name = choice.choice(self.modules), choice.choice(NAMES)
        source = choice.choice(self.modules)
        kind = choice.choice(["patch", "undo", "undo", "import", "delete"])
        which = choice.randrange(number + 1)
        namespace = vars(module)
        if kind == "patch" and name in namespace:
            self.patches[number] = module, name, namespace[name]
            namespace[name] = patch
        elif kind == "undo" and which in self.patches:
            self.undo(which)
        elif kind == "import" and name in vars(source):
            namespace[name] = vars(source)[name]
        elif kind == "delete" and choice.random() < 0.2:
            namespace.pop(name, None)

    def undo(self, number: int) -> None:
        module, name, value = self.patches.pop(number)
        setattr(module, name, value)


@pytest.fixture
def worlds() -> Iterator[Callable[[str], World]]:
    before = dict(sys.modules)
    yield World
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


@pytest.mark.parametrize("seed", range(200))
def test_all_that_is_left_is_what_the_code_has_done(
    worlds: Callable[[str], World], seed: int
) -> None:
    choice = random.Random(seed)
    real, shadow = worlds("real"), worlds("shadow")
    for one, two in zip(real.modules, shadow.modules, strict=True):
        for name in NAMES:
            value = choice.choice([original, original, unrelated, None])
            if value is not None:
                setattr(one, name, value)
                setattr(two, name, value)

    def both(count: int, first: int) -> None:
        for number in range(first, first + count):
            state = choice.getstate()

            def patch(number: int = number) -> str:
                return f"patch {number}"

            real.step(choice, patch, number)
            choice.setstate(state)
            shadow.step(choice, patch, number)

    both(choice.randrange(4), 0)
    # what stands in is another object for each use, and nothing of the shadow's is replaced
    for turn in range(2):
        with suppress(ZeroDivisionError), replaced([(original, standing_in())], but=shadow_names()):
            both(choice.randrange(8), 10 + 10 * turn)
            if choice.random() < 0.3:
                1 / 0  # noqa: B018 - it ends in an exception
        assert real.content() == shadow.content()
        both(choice.randrange(4), 50 + 10 * turn)
        put_back()
        assert real.content() == shadow.content()
    for number in sorted(real.patches):
        real.undo(number)
        shadow.undo(number)
    put_back()
    assert real.content() == shadow.content()


def shadow_names() -> list[str]:
    return [f"shadow_{number}" for number in range(MODULES)]


def test_what_is_bound_anew_in_a_later_use_is_no_leftover() -> None:
    """The same object may stand in again: it is not put back while it does."""
    module: Any = ModuleType("later")
    sys.modules["later"] = module
    module.send = original
    try:
        again = standing_in()
        with replaced([(original, again)]):
            assert module.send is again
        with replaced([(original, again)]):
            put_back()
            assert module.send is again
        assert module.send is original
    finally:
        del sys.modules["later"]


def module_level() -> str:
    return "stands in"


class ModuleLevel:
    pass


class Original:
    pass


@pytest.mark.parametrize("pair", [("original", "module_level"), ("Original", "ModuleLevel")])
def test_what_stands_in_can_be_used_again_where_its_module_has_a_name_for_it(
    pair: tuple[str, str],
) -> None:
    here = globals()
    first, second = (here[name] for name in pair)
    for _ in range(3):
        with replaced([(first, here[pair[1]])]):
            assert here[pair[0]] is second
        put_back()
        assert (here[pair[0]], here[pair[1]]) == (first, second)
