"""The manager's shared state: a driver with its domains, as in libvirt's QEMU driver.

Each has a lock; a domain has a reference count, an id and a pid while it runs, and an incarnation.
Locks are taken in one order, driver before domain. The driver's own methods take the driver lock
for the moment, unless the caller holds it. Reference counts are atomic; everything else of a domain
is guarded by its lock.
"""

from __future__ import annotations

import itertools
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Literal, Protocol

from pytest_gracekill.errors import UsageError
from pytest_gracekill.routine.callers import destroy
from pytest_gracekill.routine.domain import Domain, Notices, ReferenceCountError
from pytest_gracekill.routine.flags import KillFlags, parse_flags
from pytest_gracekill.routine.incarnation import Incarnation, start_time
from pytest_gracekill.routine.owned_lock import Lockable, OwnedLock
from pytest_gracekill.routine.policy import DEFAULT_POLICY, KillPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.routine.result import KillResult

__all__ = [
    "Domain",
    "Driver",
    "HasPid",
    "Incarnation",
    "Lookup",
    "ReferenceCountError",
    "UnknownDomainError",
]

Lookup = Literal["coupled", "referenced"]


class HasPid(Protocol):
    """A process as a domain takes it: a FakeQemu, a Popen, a psutil.Process."""

    @property
    def pid(self) -> int: ...


class UnknownDomainError(KeyError):
    """No domain of that name is defined."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(name, known)
        self.name = name
        self.known = known

    def __str__(self) -> str:
        known = ", ".join(repr(name) for name in self.known) or "none"
        return f"no domain is named {self.name!r}; defined: {known}"


class Driver:
    """All domains of one manager.

    :param lookup: ``"coupled"``, libvirt's way in 2012: a domain is locked while the driver lock is
        held, so that one busy domain stalls every look-up. ``"referenced"``: a domain is referenced
        under the driver lock and locked after that was let go.
    :param make_lock: called with ``"driver"`` and ``"domain NAME"``.
    :param notices: is told of uses after the last reference, and of clean-ups.
    :param make_domain: called with its name, its lock and the notices.
    """

    def __init__(
        self,
        *,
        lookup: Lookup = "coupled",
        make_lock: Callable[[str], Lockable] = OwnedLock,
        notices: Notices | None = None,
        make_domain: Callable[[str, Lockable, Notices | None], Domain] = Domain,
    ) -> None:
        if lookup not in ("coupled", "referenced"):
            raise UsageError(
                f'Driver(lookup={lookup!r}) cannot be used: lookup is "coupled" or "referenced"'
            )
        self.lookup: Lookup = lookup
        self.lock: Lockable = make_lock("driver")
        self._make_lock = make_lock
        self._notices = notices
        self._make_domain = make_domain
        self._domains: dict[str, Domain] = {}
        self._ids = itertools.count(1)

    def __repr__(self) -> str:
        return f"<Driver of {len(self._domains)} domains, lookup={self.lookup!r}>"

    def find(self, name: str) -> Domain | None:
        """The domain of that name, neither locked nor referenced."""
        with _taken(self.lock):
            return self._domains.get(name)

    def domains(self) -> list[Domain]:
        """All domains, neither locked nor referenced."""
        with _taken(self.lock):
            return list(self._domains.values())

    def define(self, name: str, vm: HasPid | int | None = None) -> Domain:
        """Define a domain, running as ``vm`` (``None``: inactive).

        An existing name is defined again: the same Domain runs as the new ``vm``, under a new id.
        """
        pid = None if vm is None else _pid_of(vm)
        started = None if pid is None else start_time(pid)
        with _taken(self.lock):
            domain = self._domains.get(name)
            if domain is None:
                lock = self._make_lock(f"domain {name}")
                domain = self._make_domain(name, lock, self._notices)
                self._domains[name] = domain
            with _taken(domain.lock):
                domain.begin(
                    None
                    if pid is None
                    else Incarnation(id=next(self._ids), pid=pid, started=started)
                )
            return domain

    def undefine(self, name: str) -> None:
        """Take a domain off the list, with the list's reference; who holds one keeps the domain."""
        with _taken(self.lock):
            self._require(name)
            self._domains.pop(name).unref()

    @contextmanager
    def look_up(self, name: str) -> Iterator[Domain | None]:
        """The domain locked and referenced, in the driver's style; ``None`` for an unknown name."""
        with ExitStack() as held:
            with _taken(self.lock):
                domain = self._domains.get(name)
                if domain is not None:
                    domain.ref()
                    held.callback(domain.unref)
                    if self.lookup == "coupled":
                        held.enter_context(domain.lock)
            if domain is not None and self.lookup == "referenced":
                held.enter_context(domain.lock)
            yield domain

    def list_all(self) -> list[tuple[str, bool]]:
        """Name and state of each domain, as ``virsh list --all``: locks one after the other."""
        with ExitStack() as references:
            with _taken(self.lock):
                domains = list(self._domains.values())
                if self.lookup == "coupled":
                    return [_look_at(domain) for domain in domains]
                for domain in domains:
                    domain.ref()
                    references.callback(domain.unref)
            return [_look_at(domain) for domain in domains]

    def destroy(
        self,
        name: str,
        flags: KillFlags | int = KillFlags.FORCE,
        *,
        policy: KillPolicy = DEFAULT_POLICY,
    ) -> KillResult:
        """Stop a domain and clean up after it, as the seed's qemuDomainDestroyFlags.

        Graceful (``flags=0``) it may fail: then the result says so, and nothing is cleaned up.
        UnknownDomainError when no domain has that name.
        """
        wanted = parse_flags(flags)
        with ExitStack() as held:
            if self.lookup == "coupled":
                held.enter_context(self.lock)
                domain = self._referenced(name, held)
            else:
                with self.lock:
                    domain = self._referenced(name, held)
                held.enter_context(self.lock)
            held.enter_context(domain.lock)
            return destroy(self, domain, wanted, policy=policy)

    def _require(self, name: str) -> Domain:
        try:
            return self._domains[name]
        except KeyError:
            raise UnknownDomainError(name, sorted(self._domains)) from None

    def _referenced(self, name: str, held: ExitStack) -> Domain:
        domain = self._require(name)
        domain.ref()
        held.callback(domain.unref)
        return domain


@contextmanager
def _taken(lock: Lockable) -> Iterator[None]:
    """Hold a lock for the moment; one that the caller holds already stays as it is."""
    if lock.held():
        yield
    else:
        with lock:
            yield


def _look_at(domain: Domain) -> tuple[str, bool]:
    with _taken(domain.lock):
        return domain.name, domain.active


def _pid_of(vm: HasPid | int) -> int:
    pid = vm if isinstance(vm, int) else getattr(vm, "pid", None)
    if isinstance(pid, bool) or not isinstance(pid, int) or pid <= 1:
        raise UsageError(
            f"vm={vm!r} cannot be used: it has to be None, the pid of a process (2 or more), or "
            "something whose .pid is one"
        )
    return pid
