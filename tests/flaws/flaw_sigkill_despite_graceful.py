"""A graceful stop ends in SIGKILL after all: libvirt 93af79fba3."""

from pytest_gracekill import Domain, Driver, KillFlags, KillPolicy, KillResult, process_kill

CAUGHT = {"escalation": "KILLED ANYWAY"}
NAMES = ("SIGKILL", "it was to be graceful")
TRIAL = {"flush_time": 30.0, "flags": 0}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    result = process_kill(driver, domain, flags, policy=KillPolicy(grace=0.2, reap=0.1))
    if not result.ok:
        # FLAW sigkill-despite-graceful: nobody allowed that
        return process_kill(driver, domain, KillFlags.FORCE, policy=KillPolicy(grace=0.1, reap=2.0))
    return result
