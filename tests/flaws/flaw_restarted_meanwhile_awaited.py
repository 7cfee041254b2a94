"""It waits until the domain is inactive, and waits for ever for its successor: LP 1111213."""

import time

from pytest_gracekill import Domain, Driver, KillFlags, KillResult, process_kill

CAUGHT = {"promptness": "HUNG"}
NAMES = "in destroy"
TRIAL = {
    "flush_time": 0.1,
    "flags": KillFlags.FORCE,
    "contenders": ("other", "eof"),
    "budget": 0.7,
    "at": {"unlocked": "restart"},
}
EXPLORE = {**TRIAL, "at": {}, "contenders": ("eof", "restart")}
EXPLORED = {"promptness": "HUNG"}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    domain.ref()
    process_kill(driver, domain, KillFlags.NOWAIT)
    # the end-of-file handler cleans up, and we wait for that
    while domain.active:  # FLAW restarted-meanwhile: the run that we stopped has ended
        domain.lock.release()
        driver.lock.release()
        time.sleep(0.02)
        driver.lock.acquire()
        domain.lock.acquire()
    domain.unref()
    return KillResult(ok=True, dead=True, signal=15)
