"""Locks of the user's own manager, traced for the length of a trial and restored after it.

The traced lock takes the original one inside, so that whoever holds a reference to the original
under another name is kept out as before; such a holder is not seen. A Condition stays the object
that it is, with its waiters, over the traced lock. Further names of the same lock in the same
object, and Conditions made over it there, are traced along: a `with self._lock` around a
``self._changed.wait()`` is one story. A wait on it without a timeout is watched, see `conditions`.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import MemberDescriptorType, ModuleType
from typing import TYPE_CHECKING, TypeAlias, cast

from pytest_gracekill.errors import UsageError
from pytest_gracekill.witness.adopted_lock import AdoptedLock, AdoptedRLock
from pytest_gracekill.witness.conditions import Watched, is_plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_gracekill.witness.locks import LockTracer
    from pytest_gracekill.witness.traced_lock import TracedLock

_LOCK = type(threading.Lock())
_RLOCK = (type(threading.RLock()), threading._RLock)  # noqa: SLF001 - the pure Python one

#: Seconds that a lock which is held when the trial begins may take to be let go.
_FREE_WITHIN = 1.0

#: What a Condition has of its lock: the lock, and methods of it that are its own.
_WIRES = ("_lock", "acquire", "release", "_release_save", "_acquire_restore", "_is_owned")
#: What is bound in a condition beside that: its watched wait.
_WAIT = "wait"

Named: TypeAlias = "tuple[object, str]"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a lock is bound: the owner is a class where the attribute is the class's own."""

    owner: object
    attribute: str
    value: object

    @property
    def name(self) -> str:
        owner = self.owner
        if isinstance(owner, ModuleType):
            return f"{owner.__name__.rpartition('.')[2]}.{self.attribute}"
        kind = owner if isinstance(owner, type) else type(owner)
        return f"{kind.__name__}.{self.attribute}"

    @property
    def kind(self) -> str:
        """The name of all such places, wherever the class or module comes from."""
        owner = self.owner
        if isinstance(owner, ModuleType):
            return f"{owner.__name__}.{self.attribute}"
        kind = owner if isinstance(owner, type) else type(owner)
        return f"{kind.__module__}.{kind.__qualname__}.{self.attribute}"

    @property
    def lock(self) -> object:
        """The lock itself; a Condition's own."""
        if isinstance(self.value, threading.Condition):
            return self.value._lock  # type: ignore[attr-defined]  # noqa: SLF001 - it has no other name
        return self.value


def check(locks: Sequence[object], source: str = "the call") -> None:
    """See whether these are locks that can be traced.

    :raises UsageError: names the entry, what it is, and what would be right.
    """
    right = "a list of pairs (object, 'attribute') is needed"
    if not isinstance(locks, list | tuple):
        raise UsageError(f"locks={locks!r}: {right}", source=source)
    seen: list[tuple[int, str]] = []
    for entry in locks:
        match entry:
            case (owner, str(attribute)):
                pass
            case _:
                raise UsageError(f"locks={entry!r}: {right}", source=source)
        place = _place(owner, attribute, source)
        if (id(place.owner), attribute) in seen:
            raise UsageError(f"locks: {place.name} is named twice", source=source)
        seen.append((id(place.owner), attribute))


def _place(owner: object, attribute: str, source: str) -> _Place:
    shown = f"locks=({type(owner).__name__} object, {attribute!r})"
    try:
        value = getattr(owner, attribute)
    except AttributeError:
        raise UsageError(f"{shown}: it has no such attribute", source=source) from None
    place = _Place(owner=_home(owner, attribute, value), attribute=attribute, value=value)
    if not isinstance(place.lock, (_LOCK, *_RLOCK)):
        raise UsageError(
            f"{shown}: it is a {type(value).__module__}.{type(value).__qualname__}; a"
            " threading.Lock, RLock or Condition is needed",
            source=source,
        )
    if isinstance(value, threading.Condition):
        return place  # it is not replaced
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


def _home(owner: object, attribute: str, value: object) -> object:
    """Where the attribute is bound: a lock of the class is every instance's, and every subclass's.

    It is traced for all of them.
    """
    if isinstance(owner, ModuleType) or attribute in getattr(owner, "__dict__", {}):
        return owner
    kinds = owner.__mro__ if isinstance(owner, type) else type(owner).__mro__
    return next((kind for kind in kinds if vars(kind).get(attribute) is value), owner)


@contextmanager
def adopted(
    locks: Sequence[Named], tracer: LockTracer, source: str = "the call"
) -> Iterator[tuple[TracedLock, ...]]:
    """Trace these locks; restored at the end, but for those that were replaced meanwhile.

    :raises UsageError: one of them is held, and was not let go within a second.
    """
    with ExitStack() as stack:
        made: dict[int, TracedLock] = {}
        names: dict[str, int] = {}
        for place, owner in [(_place(*named, source), named[0]) for named in locks]:
            original = place.lock
            if id(original) not in made:
                _see_free(place, source)
                number = names[place.name] = names.get(place.name, 0) + 1
                name = place.name if number == 1 else f"{place.name}-{number}"
                made[id(original)] = _traced(tracer, original, name, place)
            lock = made[id(original)]
            _bind(place, lock, stack, tracer)
            for at in (place.owner, owner):
                for further in _places(at):
                    if further.lock is original:
                        _bind(further, lock, stack, tracer)
        yield tuple(made.values())


def _places(owner: object) -> Iterator[_Place]:
    """Whatever is bound in an object, its slots included."""
    found = dict(getattr(owner, "__dict__", {}))
    kinds = () if isinstance(owner, type | ModuleType) else type(owner).__mro__
    for kind in kinds:
        for name, member in vars(kind).items():
            if isinstance(member, MemberDescriptorType) and hasattr(owner, name):
                found[name] = getattr(owner, name)
    for name, value in found.items():
        yield _Place(owner=owner, attribute=name, value=value)


def _bind(place: _Place, lock: TracedLock, stack: ExitStack, tracer: LockTracer) -> None:
    value = place.value
    if isinstance(value, threading.Condition):
        if place.lock is not lock:
            wires: dict[str, object] = {"_lock": lock}
            wires |= {name: getattr(lock, name) for name in _WIRES[1:]}
            names: tuple[str, ...] = _WIRES
            if is_plain(value):
                # two managers of a kind have two names, as their locks have
                name = place.name + lock.name.removeprefix(lock.class_)
                wires[_WAIT] = Watched(tracer, value, name).wait
                names = (*_WIRES, _WAIT)
            before = {name: vars(value)[name] for name in names if name in vars(value)}
            stack.callback(_rewire, value, before, names)
            _rewire(value, wires, names)
    elif getattr(place.owner, place.attribute, None) is value:
        stack.callback(_restore, place, lock)
        setattr(place.owner, place.attribute, lock)


def _rewire(
    condition: threading.Condition, wires: Mapping[str, object], names: Sequence[str]
) -> None:
    bound = vars(condition)
    # in one step: threads may be using it
    bound.update(wires)
    for name in names:
        if name not in wires:
            bound.pop(name, None)


def _traced(tracer: LockTracer, original: object, name: str, place: _Place) -> TracedLock:
    lock: TracedLock
    if isinstance(original, _RLOCK):
        lock = AdoptedRLock(tracer, name, place.name, original)
    else:
        lock = AdoptedLock(tracer, name, place.name, cast("threading.Lock", original))
    lock.kind = place.kind
    tracer.locks.append(lock)
    return lock


def _see_free(place: _Place, source: str) -> None:
    lock = cast("threading.Lock", place.lock)
    reentered = getattr(lock, "_is_owned", lambda: False)()
    if reentered or not lock.acquire(timeout=_FREE_WITHIN):
        raise UsageError(
            f"locks: {place.name} is held when the trial begins, for more than {_FREE_WITHIN:g} s;"
            " let it go before, and take it in the routine",
            source=source,
        )
    lock.release()


def _restore(place: _Place, ours: TracedLock) -> None:
    # what the user's code has put there meanwhile is the user's
    if getattr(place.owner, place.attribute, None) is ours:
        setattr(place.owner, place.attribute, place.value)
