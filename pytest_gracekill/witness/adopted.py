"""Locks of the user's own manager, traced for the length of a trial and restored after it.

The traced lock takes the original one inside, so that whoever holds a reference to the original
under another name is kept out as before; such a holder is not seen. A Condition is replaced by one
over the traced lock that shares its waiters.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from pytest_gracekill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gracekill.witness.locks import LockTracer
    from pytest_gracekill.witness.traced_lock import TracedLock

_LOCK = type(threading.Lock())
_RLOCK = (type(threading.RLock()), threading._RLock)  # noqa: SLF001 - the pure Python one

#: Seconds that a lock which is held when the trial begins may take to be let go.
_FREE_WITHIN = 1.0

Named: TypeAlias = "tuple[object, str]"


class Reentrant:
    """An RLock as a traced lock takes it inside: by one thread, once."""

    __slots__ = ("_lock",)

    def __init__(self, lock: threading.RLock) -> None:
        self._lock: Any = lock

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002 - threading's own signature
        return cast("bool", self._lock.acquire(blocking, timeout))

    def release(self) -> None:
        self._lock.release()

    def locked(self) -> bool:
        if self._lock._is_owned():  # noqa: SLF001 - what Condition asks of its lock
            return True
        if self._lock.acquire(blocking=False):
            self._lock.release()
            return False
        return True


class AdoptedCondition(threading.Condition):
    """A Condition over a traced lock, with the waiters of the original one."""

    def __init__(self, original: threading.Condition, lock: TracedLock) -> None:
        super().__init__(cast("threading.Lock", lock))
        self._waiters = original._waiters  # type: ignore[attr-defined]  # noqa: SLF001 - a waiter of one is woken by the other


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
    for kind in () if isinstance(owner, ModuleType) else type(owner).__mro__:
        # a lock of the class is every instance's: it is traced for all of them
        if vars(kind).get(attribute) is value and attribute not in getattr(owner, "__dict__", {}):
            owner = kind
            break
    place = _Place(owner=owner, attribute=attribute, value=value)
    if not isinstance(place.lock, (_LOCK, *_RLOCK)):
        raise UsageError(
            f"{shown}: it is a {type(value).__module__}.{type(value).__qualname__}; a"
            " threading.Lock, RLock or Condition is needed",
            source=source,
        )
    try:
        setattr(owner, attribute, value)
    except (AttributeError, TypeError) as error:
        raise UsageError(
            f"{shown}: it cannot be replaced for the length of the trial ({error})", source=source
        ) from None
    return place


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
        for owner, attribute in locks:
            place = _place(owner, attribute, source)
            original = place.lock
            if id(original) not in made:
                _see_free(place, source)
                number = names[place.name] = names.get(place.name, 0) + 1
                name = place.name if number == 1 else f"{place.name}-{number}"
                made[id(original)] = _traced(tracer, original, name, place.name)
            lock = made[id(original)]
            value: object = lock
            if isinstance(place.value, threading.Condition):
                value = AdoptedCondition(place.value, lock)
            setattr(place.owner, attribute, value)
            stack.callback(_restore, place, value)
        yield tuple(made.values())


def _traced(tracer: LockTracer, original: object, name: str, class_: str) -> TracedLock:
    if isinstance(original, _RLOCK):
        return tracer.rlock(name, class_, inner=Reentrant(cast("Any", original)))
    return tracer.lock(name, class_, inner=cast("threading.Lock", original))


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


def _restore(place: _Place, ours: object) -> None:
    # what the user's code has put there meanwhile is the user's
    if getattr(place.owner, place.attribute, None) is ours:
        setattr(place.owner, place.attribute, place.value)
