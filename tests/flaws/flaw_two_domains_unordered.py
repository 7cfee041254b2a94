"""Two domains are locked in the order of the moment: the leases move one way, and the other."""

from pytest_gracekill import Domain, Driver, KillFlags, KillResult, process_kill


def _move_leases(source: Domain, target: Domain) -> None:
    with source.lock, target.lock:  # FLAW lock-order: of two domains either may be the first
        target.sent.extend(source.sent)


def _move_back(driver: Driver, domain: Domain) -> None:
    other = driver.find("other-1")
    assert other is not None
    _move_leases(other, domain)


CAUGHT = {"deadlock": ("DEADLOCK", "LOCK ORDER")}
NAMES = ("domain other-1", "{line}")
TRIAL = {
    "flush_time": 0.1,
    "flags": KillFlags.FORCE,
    "lookup": "referenced",
    "at": {"unlocked": _move_back},
}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    other = driver.find("other-1")
    assert other is not None
    result = process_kill(driver, domain, flags)
    domain.lock.release()
    _move_leases(domain, other)
    domain.lock.acquire()
    return result
