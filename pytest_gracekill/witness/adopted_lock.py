"""Traced locks around a lock of the user's own, which goes on keeping everybody out.

The user's code may reach the same lock by a name that was not handed in: an alias, a Condition made
over it, a reference from before the trial. Whatever is done there is not seen, and it must work as
it did: a thread that has taken the lock by one name may let it go, wait and notify by the other.
So the lock inside takes part in every step, re-entries of an RLock included, and where the trace
knows nothing of a hold, the lock inside has the last word.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pytest_gracekill.clock import monotonic_ns
from pytest_gracekill.witness.sites import frames_by_thread
from pytest_gracekill.witness.traced_lock import TracedLock, TracedRLock

if TYPE_CHECKING:
    from pytest_gracekill.witness.history import RawHold
    from pytest_gracekill.witness.locks import LockTracer


class AdoptedLock(TracedLock):
    """A `threading.Lock` of the user's, traced."""

    __slots__ = ()

    def _release_foreign(self) -> None:
        if self._hold is None and self._inner.locked():
            # taken by the name that is not traced: no hand-over, and nothing to record
            self._forget()
            self._inner.release()
        else:
            super()._release_foreign()

    def _forget(self) -> None:
        with suppress(ValueError):
            self._threads.state.held.remove(self)

    # what threading.Condition asks of its lock: the same answers as from the lock inside

    def _is_owned(self) -> bool:
        return self._inner.locked()

    def _release_save(self) -> Any:
        self.release()

    def _acquire_restore(self, _saved: object) -> None:
        self.acquire()


def _owner_of(rlock: object) -> int | None:
    """The identity of the thread that has an RLock: the C implementation tells it only in words."""
    told = re.search(r"\bowner=(\d+)", repr(rlock))
    owner = getattr(rlock, "_owner", told and int(told[1]))
    return owner if isinstance(owner, int) else None


class AdoptedRLock(TracedRLock):
    """A `threading.RLock` of the user's, traced; each re-entry is one of the lock inside, too."""

    __slots__ = ("_rlock",)

    def __init__(self, tracer: LockTracer, name: str, class_: str, inner: Any) -> None:
        super().__init__(tracer, name, class_, inner)
        self._rlock = inner

    @property
    def owner_ident(self) -> int | None:
        """The identity of the thread that has it, by whatever name; None while it is free."""
        return _owner_of(self._rlock)

    def locked(self) -> bool:
        if self._rlock._is_owned():  # noqa: SLF001 - what Condition asks of its lock
            return True
        if self._rlock.acquire(blocking=False):
            self._rlock.release()
            return False
        return True

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002 (threading's signature)
        """Take the lock as `threading.RLock.acquire` does; see `TracedLock.acquire`."""
        if self.held() and not self._is_owned():
            self._forget()  # let go by the name that is not traced
        if not self.held():
            return super().acquire(blocking, timeout)
        taken = False
        try:
            # without a moment in which it is taken and not counted: see traced_lock
            for taken in self._attempts:  # noqa: B007 (the loop is the assignment)
                break
            self._count += taken
        except BaseException:
            if taken:
                self._rlock.release()
            raise
        return taken

    __enter__ = acquire

    def release(self) -> None:
        """Give the lock back as `threading.RLock.release` does."""
        if self._count and self.held():
            self._count -= 1
            self._rlock.release()
        else:
            super().release()

    def _release_foreign(self) -> None:
        # raises what an RLock raises, unless this thread has it by the name that is not traced
        self._rlock.release()
        with suppress(ValueError):
            self._threads.state.held.remove(self)

    def _forget(self) -> None:
        self._hold = None
        self._count = 0
        with suppress(ValueError):
            self._threads.state.held.remove(self)

    def _is_left_behind(self, hold: RawHold, for_ns: int) -> bool:
        if not super()._is_left_behind(hold, for_ns):
            return False
        # by a name that is not traced somebody else may have it, whose identity may be the same
        owner = hold[0]
        return _owner_of(self._rlock) == owner.ident and (
            owner.finished or owner.ident not in frames_by_thread()
        )

    def _open(self, hold: RawHold) -> None:
        """Leave it as it is: only its owner could release it."""

    def _is_owned(self) -> bool:
        return bool(self._rlock._is_owned())  # noqa: SLF001 - see above

    def _release_save(self) -> Any:
        hold, state = self._hold, self._threads.state
        if hold is not None and hold[0] is state:
            with suppress(ValueError):
                state.held.remove(self)
            if self._tracer.active:
                self._tracer.record_hold((self, hold, monotonic_ns()))
            self._count = 0
            self._hold = None
        saved = self._rlock._release_save()  # noqa: SLF001 - see above
        if self._tracer.on_step is not None:
            self._tracer.on_step("release", self)
        return saved

    def _acquire_restore(self, saved: Any) -> None:
        self.acquire()
        # (re-entries, owner), from the C implementation as from the Python one
        for _ in range(saved[0] - 1):
            self.acquire()
