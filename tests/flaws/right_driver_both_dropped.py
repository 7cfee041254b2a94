"""Both locks let go once, before the first sleep, and taken again in their order."""

from pytest_gracekill import Domain, Driver, KillFlags, KillPolicy, KillResult, process_kill

TRIAL = {"flush_time": 0.3, "flags": KillFlags.FORCE}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    return process_kill(driver, domain, flags, policy=KillPolicy(drop="both"))
