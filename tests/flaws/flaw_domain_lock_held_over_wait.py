"""One look-up of the dying domain holds up all others: the seed after its patches."""

from pytest_gracekill import Domain, Driver, KillFlags, KillPolicy, KillResult, process_kill

CAUGHT = {"locks": "HELD OVER WAIT", "progress": "STALLED"}
NAMES = "domain vm held"
TRIAL = {"flush_time": 0.5, "flags": KillFlags.FORCE, "contenders": ("other", "other", "same")}
EXPLORE = {"flags": KillFlags.FORCE, "flush_time": 3.0, "contenders": "same"}
EXPLORED = {"locks": "HELD OVER WAIT", "progress": "STALLED"}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    # FLAW lock-held-over-wait: the domain's lock, with libvirt's coupled look-up
    return process_kill(driver, domain, flags, policy=KillPolicy(drop="driver"))
