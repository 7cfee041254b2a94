"""An error path returns before the lock is back: podman 5bb8fa30b0."""

from pytest_gracekill import Domain, Driver, KillFlags, KillPolicy, KillResult, process_kill

CAUGHT = {"locks": "LOCK LOST"}
NAMES = "held at entry: driver and domain vm; at return: domain vm"
TRIAL = {"on_term": "ignore", "flags": 0}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    policy = KillPolicy(grace=0.2, reap=0.1, drop="none")
    driver.lock.release()
    domain.ref()
    result = process_kill(None, domain, flags, policy=policy)
    domain.unref()
    if not result.ok:
        return result  # FLAW lock-not-restored: the caller thinks that it holds the driver lock
    domain.lock.release()
    driver.lock.acquire()
    domain.lock.acquire()
    return result
