"""Places of locks: what a user names as ``locks=[(object, "attribute"), ...]``, read and checked.

The same for a trial, which traces the locks, and for an exploration, which simulates them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import MemberDescriptorType, ModuleType
from typing import TYPE_CHECKING, TypeAlias

from pytest_gracekill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Named: TypeAlias = "tuple[object, str]"

LOCK = type(threading.Lock())
RLOCK = (type(threading.RLock()), threading._RLock)  # noqa: SLF001 - the pure Python one


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a lock is bound: the owner is a class where the attribute is the class's own."""

    owner: object
    attribute: str
    value: object

    @property
    def _scope(self) -> type | ModuleType:
        """The module, or the class: all objects of one have the same name."""
        return self.owner if isinstance(self.owner, type | ModuleType) else type(self.owner)

    @property
    def name(self) -> str:
        return f"{self._scope.__name__.rpartition('.')[2]}.{self.attribute}"

    @property
    def kind(self) -> str:
        """The name of all such places, wherever the class or module comes from."""
        scope = self._scope
        if isinstance(scope, type):
            return f"{scope.__module__}.{scope.__qualname__}.{self.attribute}"
        return f"{scope.__name__}.{self.attribute}"

    @property
    def lock(self) -> object:
        """The lock itself; a Condition's own."""
        if isinstance(self.value, threading.Condition):
            return self.value._lock  # type: ignore[attr-defined]  # noqa: SLF001 - it has no other name
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What may be named: whether it ``fits``, as told to people, and what is not replaced."""

    fits: Callable[[Place], bool]
    told: str
    stays: tuple[type, ...]


def read(locks: Sequence[object], wanted: Wanted, source: str) -> list[Place]:
    """The places that were named.

    :raises UsageError: names the entry, what it is, and what would be right.
    """
    right = "a list of pairs (object, 'attribute') is needed"
    if not isinstance(locks, list | tuple):
        raise UsageError(f"locks={locks!r}: {right}", source=source)
    found: dict[tuple[int, str], Place] = {}
    for entry in locks:
        match entry:
            case (owner, str(attribute)):
                pass
            case _:
                raise UsageError(f"locks={entry!r}: {right}", source=source)
        place = place_of(owner, attribute, wanted, source)
        if (id(place.owner), attribute) in found:
            raise UsageError(f"locks: {place.name} is named twice", source=source)
        found[id(place.owner), attribute] = place
    return list(found.values())


def place_of(owner: object, attribute: str, wanted: Wanted, source: str) -> Place:
    """One place.

    :raises UsageError: as `read`.
    """
    shown = f"locks=({type(owner).__name__} object, {attribute!r})"
    try:
        value = getattr(owner, attribute)
    except AttributeError:
        raise UsageError(f"{shown}: it has no such attribute", source=source) from None
    place = Place(owner=_home(owner, attribute, value), attribute=attribute, value=value)
    if not wanted.fits(place):
        raise UsageError(
            f"{shown}: it is a {type(value).__module__}.{type(value).__qualname__}; {wanted.told}"
            " is needed",
            source=source,
        )
    if isinstance(value, wanted.stays):
        return place
    try:
        setattr(place.owner, attribute, value)
    except (AttributeError, TypeError) as error:
        hint = (
            "; it is a property: name the attribute that it reads"
            if isinstance(getattr(type(owner), attribute, None), property)
            else ""
        )
        raise UsageError(
            f"{shown}: it cannot be replaced for the length of the trial ({error}){hint}",
            source=source,
        ) from None
    return place


def places_in(owner: object) -> Iterator[Place]:
    """Whatever is bound in an object, its slots included."""
    found = dict(getattr(owner, "__dict__", {}))
    kinds = () if isinstance(owner, type | ModuleType) else type(owner).__mro__
    for kind in kinds:
        for name, member in vars(kind).items():
            if isinstance(member, MemberDescriptorType) and hasattr(owner, name):
                found[name] = getattr(owner, name)
    for name, value in found.items():
        yield Place(owner=owner, attribute=name, value=value)


def _home(owner: object, attribute: str, value: object) -> object:
    """Where the attribute is bound: a lock of the class is every instance's, and every subclass's.

    It is traced for all of them.
    """
    if isinstance(owner, ModuleType) or attribute in getattr(owner, "__dict__", {}):
        return owner
    kinds = owner.__mro__ if isinstance(owner, type) else type(owner).__mro__
    return next((kind for kind in kinds if vars(kind).get(attribute) is value), owner)
