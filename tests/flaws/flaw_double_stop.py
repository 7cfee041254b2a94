"""Inactive only at the very end, so that two who stop it both clean up: ff68d6eeb5^."""

from pytest_gracekill import Domain, Driver, KillFlags, KillResult, process_kill

CAUGHT = {"identity": "TWICE"}
NAMES = ("cleaned up domain vm again after", "{line}")
TRIAL = {"flush_time": 0.3, "flags": KillFlags.FORCE, "callers": 2, "contenders": ("other", "same")}
EXPLORE = {"flags": KillFlags.FORCE, "flush_time": 0.1, "contenders": "same", "callers": 2}
EXPLORED = {"identity": "TWICE"}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    domain.ref()
    result = process_kill(driver, domain, flags)
    if result.dead:
        domain.tear_down()  # FLAW double-stop: both have looked before the wait
    domain.unref()
    return result
