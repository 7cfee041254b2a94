"""Looked up again by its name after the wait, and undefined meanwhile: podman 6886e80b45."""

import os
import signal
import time

from pytest_gracekill import Domain, Driver, KillFlags

CAUGHT = {"outcome": "RAISED"}
NAMES = "AttributeError: 'NoneType' object has no attribute"
TRIAL = {
    "flush_time": 0.1,
    "topology": "zombie",
    "reaper_delay": 0.1,
    "flags": KillFlags.FORCE,
    "at": {"before the relock": "undefine"},
}
EXPLORE = {**TRIAL, "at": {}, "contenders": "undefine"}
EXPLORED = {"outcome": "RAISED"}


def _await_reaped(pid: int) -> None:
    for _ in range(500):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    pid = domain.pid
    assert pid is not None
    domain.ref()
    os.kill(pid, signal.SIGTERM)
    domain.lock.release()
    driver.lock.release()
    _await_reaped(pid)
    driver.lock.acquire()
    domain.lock.acquire()
    try:
        again = driver.find(domain.name)
        # FLAW removed-while-stopping: it is not on the list any more
        return again.incarnation is not None  # type: ignore[union-attr]
    finally:
        domain.unref()
