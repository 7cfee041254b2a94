"""'Being destroyed' ends with the wait, before anything is cleaned up: libvirt 8.1.0."""

import os
import select
import signal

from pytest_gracekill import Domain, Driver, KillFlags

CAUGHT = {"identity": "TWICE"}
NAMES = "again after eof-at"
TRIAL = {
    "flush_time": 0.1,
    "flags": KillFlags.FORCE,
    "contenders": ("other", "same"),
    "at": {"before the relock": "eof"},
}
EXPLORE = {"flags": KillFlags.FORCE, "flush_time": 0.1, "contenders": "eof"}
EXPLORED = {"identity": "TWICE"}


def _kill(driver: Driver, domain: Domain) -> bool:
    """Returns without the locks."""
    assert domain.pid is not None
    pidfd = os.pidfd_open(domain.pid)
    exited = select.poll()
    exited.register(pidfd, select.POLLIN)
    domain.being_destroyed = True
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        domain.lock.release()
        driver.lock.release()
        return bool(exited.poll(10_000))
    finally:
        domain.being_destroyed = False  # FLAW guard-window: nothing has been cleaned up yet
        os.close(pidfd)


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    domain.ref()
    dead = _kill(driver, domain)
    driver.lock.acquire()
    domain.lock.acquire()
    if dead:
        domain.tear_down()
    domain.unref()
    return dead
