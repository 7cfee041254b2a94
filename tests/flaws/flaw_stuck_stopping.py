"""A stop that failed leaves 'being destroyed' behind, and the next does nothing: podman#19629."""

from pytest_gracekill import Domain, Driver, KillFlags, KillPolicy, KillResult, process_kill

CAUGHT = {"outcome": "LEAKED", "escalation": "NEVER KILLED"}
NAMES = ("the VM lives on", "SIGKILL never came")
TRIAL = {"on_term": "ignore", "flags": KillFlags.FORCE}


def _stop(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    if domain.being_destroyed:
        return KillResult(ok=True, dead=None)  # somebody else is about to
    domain.being_destroyed = True
    result = process_kill(driver, domain, flags, policy=KillPolicy(grace=0.2, reap=0.1))
    if not result.ok:
        return result  # FLAW stuck-stopping: nobody is about to any more
    domain.being_destroyed = False
    return result


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    result = _stop(driver, domain, KillFlags(0))
    return result if result.ok else _stop(driver, domain, KillFlags.FORCE)
