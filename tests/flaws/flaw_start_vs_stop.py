"""A start that comes during a stop is not told to wait, and ends with it: podman 06fa617f61."""

from pytest_gracekill import Domain, Driver, KillFlags, KillResult, process_kill


def _start(driver: Driver, domain: Domain) -> None:
    with driver.lock:
        with domain.lock:
            run = domain.incarnation
            assert run is not None
            domain.clean_up(run)
        # FLAW start-vs-stop: not while it is being destroyed. (There is no other image to run:
        # the process of before, under a new id, is the new VM.)
        driver.define(domain.name, run.pid)


CAUGHT = {"identity": "WRONG VM"}
NAMES = "cleaned up the VM that was started meanwhile"
TRIAL = {"flush_time": 0.1, "flags": KillFlags.FORCE, "at": {"unlocked": _start}}
EXPLORE = {"flags": KillFlags.FORCE, "flush_time": 0.1, "contenders": "restart"}
EXPLORED = {"identity": "WRONG VM"}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    domain.ref()
    domain.being_destroyed = True  # nobody else may start or clean it up until this is gone
    result = process_kill(driver, domain, flags)
    if result.dead:
        domain.tear_down()
    domain.being_destroyed = False
    domain.unref()
    return result
