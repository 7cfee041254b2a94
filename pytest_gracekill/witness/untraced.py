"""Who holds a traced lock through a reference that is not traced.

A lock that is named in ``locks=`` may have been captured before the trial: in a default argument, a
closure, a Condition over it that is kept elsewhere. Whoever holds it so is not seen taking it, but
those who wait for it through its traced name are. Of their waits, what no known hold covers is a
hold by such a reference. The holder of an RLock is asked for; that of a Lock is the one thread of
whose frames one reaches the lock, as was seen whenever it was looked at meanwhile.

Not seen: a hold that nobody waits for, or only by such references; the holder of a Lock when
several threads can reach it, or none, as behind a suspended coroutine.
"""

from __future__ import annotations

import gc
import threading
from dataclasses import dataclass
from types import CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING

from pytest_gracekill.clock import monotonic_ns
from pytest_gracekill.witness.adopted_lock import AdoptedLock, AdoptedRLock
from pytest_gracekill.witness.history import UNTRACED, Hold
from pytest_gracekill.witness.sites import frame_at, frames_by_thread, frames_in_call

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_gracekill.witness.locks import LockTracer
    from pytest_gracekill.witness.traced_lock import TracedLock

    Span = tuple[int, int]

#: A wait is looked into after that many nanoseconds, and its lock once in so many.
_PATIENCE_NS = 100_000_000
_BETWEEN_NS = 200_000_000

#: How far a lock is looked for from a variable of a frame, and among how many objects.
_DEPTH = 3
_MOST = 2_000

#: What leads to everything, or to nothing.
_CLOSED = (ModuleType, type, FrameType, CodeType, str, bytes, int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """Which threads could have held a lock at a moment, each with what is known of how."""

    lock: str
    at_ns: int
    holders: dict[str, str]

    def __str__(self) -> str:
        return f"{self.lock} reachable by {', '.join(self.holders) or 'nobody'}"


class UntracedWatch:
    """Looks for the holders of locks that somebody waits for and nobody is known to hold."""

    def __init__(self, tracer: LockTracer) -> None:
        self._tracer = tracer
        self._sightings: list[Sighting] = []
        self._looked: dict[str, int] = {}

    def look(self) -> None:
        """See who could hold such a lock now; called often, from a thread of our own."""
        now = monotonic_ns()
        for lock, since_ns in self._wanted():
            looked = self._looked.get(lock.name, 0)
            if now - since_ns < _PATIENCE_NS or now - looked < _BETWEEN_NS:
                continue
            if lock.latest_hold is None and isinstance(lock, AdoptedLock | AdoptedRLock):
                self._looked[lock.name] = now
                holders = self._holders(lock)
                # it may have been taken through its name meanwhile
                if lock.latest_hold is None:
                    self._sightings.append(Sighting(lock=lock.name, at_ns=now, holders=holders))

    def holds(
        self, shortest_ns: int, routine: frozenset[str], called_ns: int, returned_ns: int
    ) -> list[Hold]:
        """Return the holds through references that are not traced, of at least that length.

        ``routine``: the threads that called it, which may take the lock so from the call on. Their
        frames can tell until they have returned.
        """
        found, now = [], monotonic_ns()
        for lock in list(self._tracer.locks):
            if not isinstance(lock, AdoptedLock | AdoptedRLock):
                continue
            for start, end in self._uncovered(lock, shortest_ns, now):
                seen = self._seen(lock, start, min(end, max(returned_ns, start)))
                common = set.intersection(*map(set, seen)) if seen else set()
                actor = UNTRACED
                if len(common) == 1 or (common and common <= routine):
                    (actor, *_) = sorted(common)
                if actor in routine and start < called_ns:
                    actor = UNTRACED  # it was held before the routine was called
                goes_on = lock.latest_hold is None and lock.locked()
                found.append(
                    Hold(
                        lock=lock.name,
                        actor=actor,
                        acquired_ns=start,
                        released_ns=None if goes_on and end >= now else end,
                        site=(),
                        untraced=seen[0].get(actor, "") if seen else "",
                        traced=False,
                    )
                )
        return found

    def _seen(self, lock: TracedLock, since_ns: int, until_ns: int) -> list[dict[str, str]]:
        seen = [
            sighting.holders
            for sighting in self._sightings
            if sighting.lock == lock.name and since_ns <= sighting.at_ns <= until_ns
        ]
        if len(seen) > 1 and not seen[-1]:
            del seen[-1]  # it was let go, and the next has not come to take it
        return seen

    def kept(self) -> dict[str, str | None]:
        """Return the locks that are held now by nobody who is known, and the thread if it is."""
        return {
            lock.name: _name(_owner(lock))
            for lock in list(self._tracer.locks)
            if isinstance(lock, AdoptedLock | AdoptedRLock)
            and lock.latest_hold is None
            and lock.locked()
        }

    def _wanted(self) -> Iterator[tuple[TracedLock, int]]:
        for state in list(self._tracer.known):
            waiting = state.waiting
            if waiting is not None:
                yield waiting.lock, waiting.since_ns
            for lock, tries in list(state.tries.items()):
                yield lock, tries.first_ns

    def _holders(self, lock: AdoptedLock | AdoptedRLock) -> dict[str, str]:
        if isinstance(lock, AdoptedRLock):
            owner = _name(_owner(lock))
            return {} if owner is None else {owner: ""}
        wait = {
            state.ident
            for state in list(self._tracer.known)
            if (waiting := state.waiting) is not None and waiting.lock is lock
        }
        found = {}
        for ident, frame in frames_by_thread().items():
            name = _name(ident)
            if ident in wait or name is None or ident == threading.get_ident():
                continue
            how = _reaches(frame, lock.inner)
            if how:
                found[name] = how
        return found

    def _uncovered(self, lock: TracedLock, shortest_ns: int, now: int) -> list[Span]:
        """The times in which somebody waited for it and nobody is known to have held it."""
        history = self._tracer.history
        waits = [
            (since, until or now)
            for wanted, _, since, until, *_ in history.every_wait()
            if wanted is lock and (until or now) - since >= shortest_ns
        ]
        if not waits:
            return []
        holds = [
            (hold[1], until or now) for held, hold, until in history.every_hold() if held is lock
        ]
        gaps = [gap for wait in waits for gap in _without(wait, holds)]
        return _united(gap for gap in gaps if gap[1] - gap[0] >= shortest_ns)


def _without(span: Span, taken: Sequence[Span]) -> Iterator[Span]:
    """What of a span none of these covers."""
    reached, end = span
    for start, until in sorted(taken):
        if until <= reached:
            continue
        if start >= end:
            break
        if start > reached:
            yield reached, start
        reached = until
    if reached < end:
        yield reached, end


def _united(spans: Iterable[Span]) -> list[Span]:
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def _owner(lock: AdoptedLock | AdoptedRLock) -> int | None:
    return lock.owner_ident if isinstance(lock, AdoptedRLock) else None


def _name(ident: int | None) -> str | None:
    """The name of a thread that runs."""
    # enumerate() takes a lock, whose owner may be who is looked for
    active: dict[int, threading.Thread] = vars(threading)["_active"]
    thread = None if ident is None else active.get(ident)
    return None if thread is None else thread.name


def _reaches(innermost: FrameType, lock: object) -> str:
    """The variable and the line by which a thread's frames lead to a lock; empty if none does."""
    for frame in frames_in_call(innermost):
        variables = {
            name: frame.f_globals[name] for name in frame.f_code.co_names if name in frame.f_globals
        }
        name = _leading(variables | dict(frame.f_locals), lock)
        if name is not None:
            return f"{name} in {frame_at(frame)}"
    return ""


def _leading(variables: dict[str, object], lock: object) -> str | None:
    """The variable that leads to a lock in a few steps."""
    level = list(variables.items())
    seen = set[int]()
    for _ in range(_DEPTH + 1):
        following: list[tuple[str, object]] = []
        for name, item in level:
            if item is lock:
                return name
            kind = type(item)  # not isinstance(): a proxy would run the user's code
            ours = kind.__module__.partition(".")[0] == "pytest_gracekill"
            # a traced lock has the real one inside
            if ours or id(item) in seen or len(seen) > _MOST or issubclass(kind, _CLOSED):
                continue
            seen.add(id(item))
            following += [(name, referent) for referent in _referents(item)]
        level = following
    return None


def _referents(item: object) -> list[object]:
    if type(item) is FunctionType:
        # not its globals: they lead everywhere
        cells = [cell.cell_contents for cell in item.__closure__ or () if _is_filled(cell)]
        return [*cells, *(item.__defaults__ or ()), *(item.__kwdefaults__ or {}).values()]
    if type(item) is MethodType:
        return [item.__self__, item.__func__]
    bound = [value for kind in type(item).__mro__ for value in list(vars(kind).values())]
    locks = [value for value in bound if type(value).__module__ == "_thread"]
    return [*gc.get_referents(item), *locks]


def _is_filled(cell: object) -> bool:
    try:
        cell.cell_contents  # type: ignore[attr-defined]  # noqa: B018 - it raises when it is empty
    except ValueError:
        return False
    return True
