"""One VM of a manager, as libvirt's virDomainObj: a lock, references, and the run that it is in.

Reference counts are atomic; everything else is guarded by the domain's lock. What is done to a
domain whose last reference is gone would be a use of freed memory in C: here it works, and a
`Notices` is told.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol, cast

from pytest_gracekill.routine.owned_lock import Lockable, OwnedLock

if TYPE_CHECKING:
    from pytest_gracekill.routine.incarnation import Incarnation
    from pytest_gracekill.routine.pursuit import Sent


class ReferenceCountError(RuntimeError):
    """A domain was referenced after its last reference was dropped, or dropped once too often."""


class Notices(Protocol):
    """Who is told what becomes of a domain; in a trial the witness."""

    def used_after_free(self, domain: str, what: str) -> None: ...

    def torn_down(self, domain: str, incarnation: Incarnation | None) -> None: ...


class Domain:
    """One VM. A new one has one reference, that of the driver's list."""

    __slots__ = (
        "_changed",
        "_guard",
        "_incarnation",
        "_lock",
        "_notices",
        "_refs",
        "being_destroyed",
        "job",
        "name",
        "sent",
    )

    def __init__(
        self, name: str, lock: Lockable | None = None, notices: Notices | None = None
    ) -> None:
        self.name = name
        self._lock: Lockable = OwnedLock(f"domain {name}") if lock is None else lock
        self._notices = notices
        #: The guard flag: set by who is about to destroy it, so that the end-of-file handler leaves
        #: the clean-up to them. libvirt's ``priv->beingDestroyed``.
        self.being_destroyed = False
        #: Who has the job of changing it, by name; None when nobody has.
        self.job: str | None = None
        self._changed: threading.Condition | None = None
        #: What this incarnation was sent; a new list with each incarnation.
        self.sent: list[Sent] = []
        self._incarnation: Incarnation | None = None
        self._refs = 1
        self._guard = threading.Lock()

    def __repr__(self) -> str:
        run = self._incarnation
        id_, pid = (None, None) if run is None else (run.id, run.pid)
        return f"<Domain {self.name!r} id={id_} pid={pid} refs={self._refs}>"

    def _used(self, what: str) -> None:
        if self._refs == 0 and self._notices is not None:
            self._notices.used_after_free(self.name, what)

    @property
    def lock(self) -> Lockable:
        """What guards it."""
        self._used("lock")
        return self._lock

    @lock.setter
    def lock(self, lock: Lockable) -> None:
        self._lock = lock

    @property
    def incarnation(self) -> Incarnation | None:
        """The present run; ``None`` while inactive."""
        self._used("incarnation")
        return self._incarnation

    @property
    def id(self) -> int | None:
        self._used("id")
        return self._incarnation.id if self._incarnation is not None else None

    @property
    def pid(self) -> int | None:
        self._used("pid")
        return self._incarnation.pid if self._incarnation is not None else None

    @property
    def active(self) -> bool:
        self._used("active")
        return self._incarnation is not None

    @property
    def refs(self) -> int:
        return self._refs

    @property
    def changed(self) -> threading.Condition:
        """Wakes who waits for the job, or for the domain to be inactive. Over the domain's lock."""
        with self._guard:
            if self._changed is None:
                self._changed = threading.Condition(cast("threading.Lock", self._lock))
            return self._changed

    def begin_job(self, name: str, timeout: float = 30.0) -> bool:
        """Have the job, waiting for it without the lock; False when it was not to be had in time.

        Call with the lock held. libvirt's ``virDomainObjBeginJob``, which waits for 30 s.
        """
        self._used("begin_job()")
        if not self.changed.wait_for(lambda: self.job is None, timeout):
            return False
        self.job = name
        return True

    def end_job(self) -> None:
        """Give the job back, and wake who waits for it. Call with the lock held."""
        self._used("end_job()")
        self.job = None
        self.changed.notify_all()

    def ref(self) -> int:
        """Add a reference; returns how many there are now."""
        self._used("ref()")
        with self._guard:
            if self._refs == 0:
                raise ReferenceCountError(f"domain {self.name!r} was referenced after it was freed")
            self._refs += 1
            return self._refs

    def unref(self) -> int:
        """Drop a reference; returns how many are left. At 0 the domain is freed."""
        self._used("unref()")
        with self._guard:
            if self._refs == 0:
                raise ReferenceCountError(
                    f"domain {self.name!r} has no reference left to drop: one was dropped twice"
                )
            self._refs -= 1
            return self._refs

    def begin(self, incarnation: Incarnation | None) -> None:
        """Run as this incarnation from now on (``None``: be inactive). Call with the lock held."""
        self._used("begin()")
        # the list first: who sees the new incarnation must not find the old one's signals
        self.sent = []
        self._incarnation = incarnation

    def clean_up(self, incarnation: Incarnation) -> bool:
        """Be inactive if this is still the present incarnation. Call with the lock held.

        False when there was nothing to do: somebody else has cleaned up, or started it again.
        """
        self._used("clean_up()")
        if self._incarnation != incarnation:
            return False
        self.tear_down()
        return True

    def tear_down(self) -> None:
        """Close the monitor, give back what the VM had, be inactive. Call with the lock held.

        Whatever runs as this domain: who calls it has made sure that it is the right one, and that
        nobody else has done it. libvirt's ``qemuProcessStop``.
        """
        self._used("tear_down()")
        if self._notices is not None:
            self._notices.torn_down(self.name, self._incarnation)
        self.begin(None)
        if self._changed is not None:
            # only now: who is woken before finds it active, and sleeps on
            self._changed.notify_all()
