"""Holding the two locks, letting go of them over a wait, and holding them again, on every path.

The order is the seed's: driver before domain, so that a domain lock that is still held is let go
before the driver lock is waited for. Whatever comes out of the wait or out of a lock, the locks
that were held before are held after, and the first exception goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pytest_gracekill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gracekill.routine.owned_lock import Lockable
    from pytest_gracekill.routine.policy import Drop

T = TypeVar("T")

#: How often a lock is asked for again whose ``acquire`` raises every time (a traced lock that
#: refuses to close a deadlock does) before its exception is let through.
_ATTEMPTS = 10


class Tenure:
    """The locks of one call: the driver's (``None``: there is none) and the domain's."""

    def __init__(self, driver: Lockable | None, domain: Lockable, drop: Drop) -> None:
        self._driver = driver
        self._domain = domain
        self._drop = drop
        # for locks that cannot say themselves who holds them
        self._without: set[int] = set()

    def check_held(self) -> None:
        """Raise UsageError unless the calling thread holds what a waiting call has to hold."""
        if self._driver is not None and not self._has(self._driver):
            raise UsageError(
                "process_kill was called without driver.lock: a call that may wait is made with "
                "driver.lock and domain.lock held, taken in that order (driver=None: there is no "
                "driver lock)"
            )
        if not self._has(self._domain):
            raise UsageError(
                "process_kill was called without domain.lock: a call that may wait is made with "
                "driver.lock and domain.lock held, taken in that order"
            )

    def unlocked(self, wait: Callable[[], T]) -> T:
        """Call ``wait`` with the locks let go that the policy names, and take them again."""
        first: BaseException | None = None
        try:
            try:
                self._let_go()
                return wait()
            except BaseException as error:
                first = error
                raise
            finally:
                self._take_again()
        except BaseException as error:
            # an exception may come in between the two statements of any cleanup: once more
            self._take_again()
            if first is not None and first is not error:
                first.add_note(f"then, while the locks were taken again: {error!r}")
                raise first from None
            raise

    def _let_go(self) -> None:
        if self._driver is not None and self._drop != "none":
            self._release(self._driver)
        if self._drop == "both":
            self._release(self._domain)

    def _take_again(self) -> None:
        first: BaseException | None = None
        for _ in range(_ATTEMPTS):
            try:
                self._take_missing()
                break
            except BaseException as error:  # noqa: BLE001 - raised again, with the locks in place
                first = first or error
        if first is not None:
            raise first

    def _take_missing(self) -> None:
        if self._driver is not None and not self._has(self._driver):
            if self._has(self._domain):
                self._release(self._domain)
            self._acquire(self._driver)
        if not self._has(self._domain):
            self._acquire(self._domain)

    def _has(self, lock: Lockable) -> bool:
        held = getattr(lock, "held", None)
        return held() if held is not None else id(lock) not in self._without

    def _release(self, lock: Lockable) -> None:
        lock.release()
        self._without.add(id(lock))

    def _acquire(self, lock: Lockable) -> None:
        lock.acquire()
        self._without.discard(id(lock))
