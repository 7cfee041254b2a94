"""One global lock, let go over the wait; look-ups of the domain itself do without its lock."""

from pytest_gracekill import Domain, Driver, KillFlags, KillPolicy, KillResult, process_kill

TRIAL = {
    "flush_time": 0.3,
    "flags": KillFlags.FORCE,
    "contenders": ("other", "define", "other", "define"),
}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    run = domain.incarnation
    assert run is not None
    domain.ref()
    domain.being_destroyed = True
    try:
        result = process_kill(driver, domain, flags, policy=KillPolicy(drop="driver"))
        if result.dead:
            domain.clean_up(run)
        return result
    finally:
        domain.being_destroyed = False
        domain.unref()
