"""Mutexes: taken and given back in one operation each.

A lock belongs to the schedule in which it is used first: one that was named from outside is as good
as new in each.
"""

from __future__ import annotations

import _thread
import threading
from typing import TYPE_CHECKING, Any

from pytest_gracekill.explore.tasks import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.explore.run import Run
    from pytest_gracekill.explore.tasks import Task
    from pytest_gracekill.witness.sites import Site


# the real ones, whatever is replaced
_allocate_lock, _RLock = _thread.allocate_lock, _thread.RLock
_LONGEST = _thread.TIMEOUT_MAX

#: How a lock is called that nobody has given a name.
_UNNAMED = "lock-"


class Lock:
    """A ``threading.Lock``; also the model's, with ``held()``."""

    __slots__ = (
        "__weakref__",
        "_count",
        "_real",
        "_run",
        "mask",
        "name",
        "owner",
        "since",
        "site",
        "strict",
    )

    reentrant = False

    def __init__(self, name: str | None = None, run: Run | None = None) -> None:
        self.name = name or ""
        self._run: Run | None = None
        self._real: Any = None
        self.owner: Task | None = None
        self.since = 0
        self.site: Site = ()
        self.mask = 0
        self._count = 0
        task = current()
        if run is None and task is not None:
            run = task.run
        if run is not None:
            self.join(run)

    def __repr__(self) -> str:
        state = "unlocked" if self.owner is None else f"locked by {self.owner.name}"
        return f"<{type(self).__name__} {self.name} {state}>"

    @property
    def unnamed(self) -> bool:
        """Whether nobody has given it a name."""
        return self.name.startswith(_UNNAMED)

    def is_free(self) -> bool:
        """Whether nobody has it: what whoever waits for it asks at each step."""
        return self.owner is None

    def join(self, run: Run) -> None:
        """Be a lock of this schedule, and free."""
        self._run = run
        self.owner = None
        self._count = 0
        self.mask = run.new_bit()
        run.locks.append(self)
        if not self.name:
            self.name = f"{_UNNAMED}{len(run.locks)}"

    def _outside(self) -> Any:
        """A real lock, for whoever has kept this one and uses it when the exploration is over."""
        if self._real is None:
            self._real = _RLock() if self.reentrant else _allocate_lock()
        return self._real

    def _caller(self, task: Task) -> Run:
        run = task.run
        if self._run is not run:
            self.join(run)
        return run

    # -- what a lock of threading has

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002 - threading's own signature
        task = current()
        if task is None:
            return bool(self._outside().acquire(blocking, timeout))
        run = self._caller(task)
        if self.reentrant and self.owner is task:
            # its own lock: nobody else could tell whether it was taken again
            self._count += 1
            return True
        _check(blocking=blocking, timeout=timeout)
        if not blocking or timeout == 0:
            run.perform(task, "tries", self, self.mask)
            if self.owner is not None:
                return False
            self.take(task, run)
            return True
        task.waits_for, task.since, task.order = self, run.now, run.performed
        if timeout < 0:
            taken = run.perform(task, "acquires", self, self.mask, self.is_free)
        else:
            taken = run.wait(task, "acquires", self, self.mask, self.is_free, timeout)
        task.waits_for = None
        if run.now != task.since:
            run.note_wait(self, task, acquired=taken, timed=timeout >= 0)
        if taken:
            self.take(task, run)
        return taken

    def take(self, task: Task, run: Run) -> None:
        """Have it, as part of an operation."""
        self.owner = task
        self.since = run.now
        self.site = task.site
        task.held.append(self)
        run.acquisitions += 1

    def release(self) -> None:
        task = current()
        if task is None:
            self._outside().release()
            return
        run = self._caller(task)
        if run.abandoning:
            self.owner = None
            return
        if self.reentrant:
            if self.owner is not task:
                raise RuntimeError("cannot release un-acquired lock")
            if self._count:
                self._count -= 1
                return
        run.perform(task, "releases", self, self.mask)
        self.give_back(run)

    def give_back(self, run: Run) -> None:
        """Have it no more, as part of an operation."""
        owner = self.owner
        if owner is None:
            raise RuntimeError("release unlocked lock")
        if run.now != self.since:
            run.note_hold(self, owner)
        owner.held.remove(self)
        self.owner = None

    def let_go(self, run: Run) -> int:
        """Give it back however often it was taken; returns how often."""
        count, self._count = self._count, 0
        self.give_back(run)
        return count

    def take_again(self, task: Task, run: Run, count: int) -> None:
        """Have it as often as before."""
        self.take(task, run)
        self._count = count

    def locked(self) -> bool:
        task = current()
        if task is None:
            return self._real is not None and bool(self._real.locked())
        self._caller(task).perform(task, "looks at", self, self.mask, reads=True)
        return self.owner is not None

    def held(self) -> bool:
        """Whether the calling thread holds it: as no other can change that, no operation."""
        return self.owner is not None and self.owner is current()

    __enter__ = acquire

    def __exit__(self, *_: object) -> None:
        self.release()

    def __str__(self) -> str:
        return self.name

    # what Condition asks of its lock

    def _is_owned(self) -> bool:
        return self.held()

    def _at_fork_reinit(self) -> None:
        raise RuntimeError("a fork is not simulated")


class RLock(Lock):
    """A ``threading.RLock``: taken again by its owner it is no operation."""

    __slots__ = ()

    reentrant = True


def _check(*, blocking: bool, timeout: float) -> None:
    """Raise what a lock of threading raises, in its words, which are not those of each version."""
    if timeout != -1 and (not blocking or timeout < 0 or timeout > _LONGEST):
        _allocate_lock().acquire(blocking, timeout)


def replacements() -> Iterator[tuple[object, object]]:
    """Pairs of threading's locks and what makes ours: in a task's thread only."""
    yield threading.Lock, _maker(threading.Lock, Lock)
    yield threading.RLock, _maker(threading.RLock, RLock)


def _maker(real: Any, ours: Callable[[], object]) -> Callable[..., object]:
    def make(*arguments: object, **named: object) -> object:
        return real(*arguments, **named) if current() is None else ours()

    make.__name__ = real.__name__
    return make
