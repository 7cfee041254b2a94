"""Cleaned up although the kill has failed, so that nobody knows the VM any more: nimbus#101."""

from pytest_gracekill import Domain, Driver, KillFlags, KillPolicy, process_kill

CAUGHT = {"outcome": "LEAKED"}
NAMES = "the VM lives on"
TRIAL = {"on_term": "ignore", "flags": 0}


def stop(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    run = domain.incarnation
    assert run is not None
    domain.ref()
    domain.being_destroyed = True
    process_kill(driver, domain, flags, policy=KillPolicy(grace=0.2, reap=0.1))
    domain.clean_up(run)  # FLAW error-becomes-cleanup: only when the kill says 'dead'
    stopped = not domain.active
    domain.being_destroyed = False
    domain.unref()
    return stopped
