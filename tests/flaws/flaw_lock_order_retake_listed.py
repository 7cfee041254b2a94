"""Whether it is still on the list is asked for under the domain's lock alone: 7882c6eca5."""

from pytest_gracekill import Domain, Driver, KillFlags, KillPolicy, KillResult, process_kill

CAUGHT = {"deadlock": ("DEADLOCK", "LOCK ORDER")}
NAMES = "{line}"
TRIAL = {"flush_time": 0.1, "flags": KillFlags.FORCE}
EXPLORE = {"flags": KillFlags.FORCE, "flush_time": 0.1, "contenders": "same"}
EXPLORED = {"deadlock": "DEADLOCK"}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    run = domain.incarnation
    assert run is not None
    domain.ref()
    driver.lock.release()
    try:
        # the driver's lock is not needed for this
        result = process_kill(None, domain, flags, policy=KillPolicy(drop="both"))
        if driver.find(domain.name) is domain:  # FLAW lock-order-retake: find() takes it, though
            domain.clean_up(run)
        domain.lock.release()
        return result
    finally:
        driver.lock.acquire()
        domain.lock.acquire()
        domain.unref()
