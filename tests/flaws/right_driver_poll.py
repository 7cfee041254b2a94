"""The seed's poll as it should have been: deadlines, zombies seen, a last look."""

from pytest_gracekill import Domain, Driver, KillFlags, KillPolicy, KillResult, process_kill

TRIAL = {"flush_time": 0.3, "flags": KillFlags.FORCE}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    return process_kill(driver, domain, flags, policy=KillPolicy(wait="poll", poll=0.05))
