"""Everybody waits for the driver lock while one VM dies: the seed, before its first patch."""

from pytest_gracekill import Domain, Driver, KillFlags, KillPolicy, KillResult, process_kill

CAUGHT = {"locks": "HELD OVER WAIT", "progress": "STALLED"}
NAMES = "driver held"
TRIAL = {"flush_time": 0.5, "flags": KillFlags.FORCE}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    # FLAW lock-held-over-wait: libvirt 595e26c086^
    return process_kill(driver, domain, flags, policy=KillPolicy(drop="none"))
