"""The kill has a reference while it waits, its caller has none: libvirt before 540c339a25."""

from pytest_gracekill import Domain, Driver, KillFlags, KillResult, process_kill

CAUGHT = {"identity": "FREED"}
NAMES = "{line}"
TRIAL = {"flush_time": 0.1, "flags": KillFlags.FORCE, "at": {"before the relock": "undefine"}}
EXPLORE = {"flags": KillFlags.FORCE, "flush_time": 0.1, "contenders": "undefine"}
EXPLORED = {"identity": "FREED"}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    run = domain.incarnation
    domain.being_destroyed = True
    result = process_kill(driver, domain, flags)
    if result.dead and run is not None:
        domain.clean_up(run)  # FLAW unlock-without-ref: the kill has just dropped the last one
    domain.being_destroyed = False
    return result
