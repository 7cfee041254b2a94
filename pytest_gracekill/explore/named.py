"""Locks that were made before the exploration: those that are named are simulated in it.

A Lock or RLock is replaced where it is bound, and put back; a Condition, Event, Semaphore, Barrier
or Queue stays the object that it is, and begins each schedule as it was.
"""

from __future__ import annotations

import queue
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from pytest_gracekill.explore.locks import Lock, RLock
from pytest_gracekill.explore.states import mark, unmark
from pytest_gracekill.witness.bindings import replaced
from pytest_gracekill.witness.places import LOCK, RLOCK, Place, Wanted, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gracekill.explore.run import Run

#: What stays the object that it is.
OBJECTS = (
    threading.Condition,
    threading.Event,
    threading.Semaphore,
    threading.Barrier,
    queue.Queue,
)
ALL = (LOCK, *RLOCK, *OBJECTS)

#: What can be simulated.
_SIMULATED = Wanted(
    fits=lambda place: isinstance(place.value, ALL),
    told="a Lock, RLock, Condition, Event, Semaphore, Barrier or Queue",
    stays=OBJECTS,
)


def read_named(locks: Sequence[object], source: str) -> list[Place]:
    """The locks that were named.

    :raises UsageError: names the entry, what it is, and what would be right.
    """
    return read(locks, _SIMULATED, source)


class NamedLocks:
    """What was named, as each schedule finds it."""

    def __init__(
        self, places: Sequence[Place], thread_locals: Sequence[threading.local] = ()
    ) -> None:
        self._places = places
        self._thread_locals = thread_locals
        self._locks: dict[int, Lock] = {}

    @contextmanager
    def simulated(self) -> Iterator[None]:
        """Replace them, and put back what was there."""
        with ExitStack() as stack:
            pairs: list[tuple[object, object]] = []
            for place in self._places:
                value = place.value
                if not isinstance(value, OBJECTS):
                    lock = self._lock_for(value, place.name)
                    stack.callback(setattr, place.owner, place.attribute, value)
                    setattr(place.owner, place.attribute, lock)
                    pairs.append((value, lock))
                    continue
                stack.callback(unmark, value)
                mark(value, place.name)
                if isinstance(value, threading.Condition):
                    lock = self._lock_for(place.lock, f"{place.name}'s lock")
                    _wire(value, lock, stack)
            # what another module has imported by name is the same lock
            stack.enter_context(replaced(pairs, but=("pytest_gracekill",)))
            yield

    def prepare(self, run: Run) -> None:
        """Have their bits in the order in which they were named."""
        run.thread_locals = self._thread_locals
        for lock in self._locks.values():
            lock.join(run)

    def _lock_for(self, real: object, name: str) -> Lock:
        """One simulated lock for each real one, under however many names."""
        if id(real) not in self._locks:
            reentrant = isinstance(real, RLOCK)
            self._locks[id(real)] = RLock(name) if reentrant else Lock(name)
        return self._locks[id(real)]


def _wire(condition: Any, lock: Lock, stack: ExitStack) -> None:
    for name, there in (("_lock", lock), ("acquire", lock.acquire), ("release", lock.release)):
        stack.callback(setattr, condition, name, getattr(condition, name))
        setattr(condition, name, there)
