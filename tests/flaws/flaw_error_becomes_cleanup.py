"""The kill has failed, and the VM is cleaned up after all, as if it had gone: nimbus#101."""

from pytest_gracekill import Domain, Driver, KillFlags, KillPolicy, process_kill

CAUGHT = {"outcome": "LEAKED"}
NAMES = "the VM lives on"
TRIAL = {"on_term": "ignore", "flags": 0}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    run = domain.incarnation
    process_kill(driver, domain, flags, policy=KillPolicy(grace=0.2, reap=0.1))
    if run is not None:
        domain.clean_up(run)  # FLAW error-becomes-cleanup: its disk and its address are free now
    return not domain.active
