"""What the kill returns is not looked at, and 'destroyed' is reported: libvirt f1b4021b38^."""

from pytest_gracekill import Domain, Driver, KillFlags, KillPolicy, process_kill

CAUGHT = {"outcome": "LEAKED"}
NAMES = "the VM lives on"
TRIAL = {"on_term": "ignore", "flags": 0}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    # FLAW ignore-return-of-kill: it has failed
    process_kill(driver, domain, flags, policy=KillPolicy(grace=0.2, reap=0.1))
    return True
