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
from typing import TYPE_CHECKING, cast

from pytest_gracekill.errors import UsageError
from pytest_gracekill.witness.adopted_lock import AdoptedLock, AdoptedRLock
from pytest_gracekill.witness.conditions import Watched, is_plain
from pytest_gracekill.witness.places import LOCK, RLOCK, Place, Wanted, place_of, places_in, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_gracekill.witness.locks import LockTracer
    from pytest_gracekill.witness.places import Named
    from pytest_gracekill.witness.traced_lock import TracedLock

#: Seconds that a lock which is held when the trial begins may take to be let go.
_FREE_WITHIN = 1.0

#: What a Condition has of its lock: the lock, and methods of it that are its own.
_WIRES = ("_lock", "acquire", "release", "_release_save", "_acquire_restore", "_is_owned")
#: What is bound in a condition beside that: its watched wait.
_WAIT = "wait"


#: What can be traced.
_TRACEABLE = Wanted(
    fits=lambda place: isinstance(place.lock, (LOCK, *RLOCK)),
    told="a threading.Lock, RLock or Condition",
    stays=(threading.Condition,),
)


def check(locks: Sequence[object], source: str = "the call") -> None:
    """See whether these are locks that can be traced.

    :raises UsageError: names the entry, what it is, and what would be right.
    """
    read(locks, _TRACEABLE, source)


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
        for place, owner in [(place_of(*named, _TRACEABLE, source), named[0]) for named in locks]:
            original = place.lock
            if id(original) not in made:
                _see_free(place, source)
                number = names[place.name] = names.get(place.name, 0) + 1
                name = place.name if number == 1 else f"{place.name}-{number}"
                made[id(original)] = _traced(tracer, original, name, place)
            lock = made[id(original)]
            _bind(place, lock, stack, tracer)
            for at in (place.owner, owner):
                for further in places_in(at):
                    if further.lock is original:
                        _bind(further, lock, stack, tracer)
        yield tuple(made.values())


def _bind(place: Place, lock: TracedLock, stack: ExitStack, tracer: LockTracer) -> None:
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


def _traced(tracer: LockTracer, original: object, name: str, place: Place) -> TracedLock:
    lock: TracedLock
    if isinstance(original, RLOCK):
        lock = AdoptedRLock(tracer, name, place.name, original)
    else:
        lock = AdoptedLock(tracer, name, place.name, cast("threading.Lock", original))
    lock.kind = place.kind
    tracer.locks.append(lock)
    return lock


def _see_free(place: Place, source: str) -> None:
    lock = cast("threading.Lock", place.lock)
    reentered = getattr(lock, "_is_owned", lambda: False)()
    if reentered or not lock.acquire(timeout=_FREE_WITHIN):
        raise UsageError(
            f"locks: {place.name} is held when the trial begins, for more than {_FREE_WITHIN:g} s;"
            " let it go before, and take it in the routine",
            source=source,
        )
    lock.release()


def _restore(place: Place, ours: TracedLock) -> None:
    # what the user's code has put there meanwhile is the user's
    if getattr(place.owner, place.attribute, None) is ours:
        setattr(place.owner, place.attribute, place.value)
