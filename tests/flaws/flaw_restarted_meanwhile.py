"""What was started during the wait is cleaned up for its predecessor: nova 27330ac85c."""

from pytest_gracekill import Domain, Driver, KillFlags, KillResult, process_kill

CAUGHT = {"identity": "WRONG VM"}
NAMES = ("cleaned up the VM that was started meanwhile", "{line}")
TRIAL = {"flush_time": 0.1, "flags": KillFlags.FORCE, "at": {"before the relock": "restart"}}
EXPLORE = {"flags": KillFlags.FORCE, "flush_time": 0.1, "contenders": "restart"}
EXPLORED = {"identity": "WRONG VM"}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    domain.ref()
    domain.being_destroyed = True
    result = process_kill(driver, domain, flags)
    if result.dead and domain.active:
        domain.tear_down()  # FLAW restarted-meanwhile: it is active, but is it the one we killed?
    domain.being_destroyed = False
    domain.unref()
    return result
