"""libvirt's way of today: guard flag, reference, one drop, and another look when it is back."""

from pytest_gracekill import Domain, Driver, KillFlags, KillResult, process_kill

TRIAL = {"flush_time": 0.3, "flags": KillFlags.FORCE}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    run = domain.incarnation
    if run is None:
        return KillResult(ok=True, dead=True)
    domain.ref()
    domain.being_destroyed = True
    try:
        result = process_kill(driver, domain, flags)
        if result.dead and domain.incarnation == run:
            domain.tear_down()
        return result
    finally:
        if domain.incarnation in (run, None):
            domain.being_destroyed = False
        domain.unref()
