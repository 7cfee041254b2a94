"""'Being destroyed' is said when the locks are gone already: 81621f3e6e."""

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
    "at": {"unlocked": "eof"},
}
EXPLORE = {"flags": KillFlags.FORCE, "flush_time": 0.1, "contenders": "eof"}
EXPLORED = {"identity": "TWICE"}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    assert domain.pid is not None
    pidfd = os.pidfd_open(domain.pid)
    exited = select.poll()
    exited.register(pidfd, select.POLLIN)
    domain.ref()
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        domain.lock.release()
        driver.lock.release()
        domain.being_destroyed = True  # FLAW guard-window: the handler may have come in between
        dead = bool(exited.poll(10_000))
        driver.lock.acquire()
        domain.lock.acquire()
        if dead:
            domain.tear_down()
        domain.being_destroyed = False
        return dead
    finally:
        os.close(pidfd)
        domain.unref()
