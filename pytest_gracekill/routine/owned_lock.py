"""A lock that knows whether the calling thread holds it, and the protocol of the model's locks.

Built on the interpreter's ``RLock``, because that one stores its owner in the same C call that
takes it: with a plain ``Lock`` and an attribute, an interrupt between the two would leave a lock
that is taken and has no owner. It is not re-entrant: like libvirt's mutexes it is taken once.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from types import TracebackType


class Lockable(Protocol):
    """What the model needs of a lock; a traced lock has it, too."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...  # noqa: FBT001, FBT002 - threading's own signature

    def release(self) -> None: ...

    def locked(self) -> bool: ...

    def held(self) -> bool:
        """Whether the calling thread holds it."""

    def __enter__(self) -> object: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class OwnedLock:
    """A mutex with ``held()``: only its owner can release it, and take it once."""

    __slots__ = ("_lock", "name")

    def __init__(self, name: str = "lock") -> None:
        self.name = name
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"<OwnedLock {self.name!r}{' locked' if self.locked() else ''}>"

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002 - threading's own signature
        """Take it. When this raises (an interrupt), the lock has not been taken by this call."""
        if self.held():
            if not blocking or timeout >= 0:
                return False
            raise RuntimeError(
                f"the lock {self.name!r} is already held by this thread "
                f"({threading.current_thread().name}): waiting for it would never end"
            )
        try:
            return self._lock.acquire(blocking, timeout)
        except BaseException:
            if self.held():  # taken, then interrupted before the return
                self._lock.release()
            raise

    def release(self) -> None:
        """Let it go; RuntimeError when the calling thread does not hold it."""
        self._lock.release()

    def locked(self) -> bool:
        """Whether any thread holds it. Takes it for a moment: before 3.14 an RLock cannot say."""
        if self.held():
            return True
        if self._lock.acquire(blocking=False):
            self._lock.release()
            return False
        return True

    def held(self) -> bool:
        """Whether the calling thread holds it."""
        # what Condition asks of its lock, in every implementation of RLock since Python 2
        owned: bool = self._lock._is_owned()  # type: ignore[attr-defined]  # noqa: SLF001
        return owned

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
