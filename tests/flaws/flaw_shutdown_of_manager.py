"""SIGTERM to the manager cleans everything up, also what a stop will clean up: 97338eaa7b."""

import os
import signal
from types import FrameType

from pytest_gracekill import Domain, Driver, KillFlags, KillResult, process_kill


def _host_goes_down(_driver: Driver, _domain: Domain) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


CAUGHT = {"identity": "TWICE"}
NAMES = "cleaned up domain vm again after"
TRIAL = {
    "flush_time": 0.2,
    "flags": KillFlags.FORCE,
    "contenders": ("other", "same"),
    "at": {"unlocked": _host_goes_down},
}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    def shut_down_all(_signum: int, _frame: FrameType | None) -> None:
        if not domain.lock.held() and not driver.lock.held():
            with driver.lock, domain.lock:
                # FLAW shutdown-of-manager: a stop is under way, which the flag would tell
                domain.tear_down()

    previous = signal.signal(signal.SIGTERM, shut_down_all)
    domain.ref()
    domain.being_destroyed = True
    try:
        result = process_kill(driver, domain, flags)
        if result.dead:
            domain.tear_down()
        return result
    finally:
        signal.signal(signal.SIGTERM, previous)
        domain.being_destroyed = False
        domain.unref()
