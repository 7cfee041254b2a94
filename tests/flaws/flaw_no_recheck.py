"""The pid is read again after the locks were let go: dc2fd51fd7, 5756a7bf2a."""

import os
import select
import signal

from pytest_gracekill import Domain, Driver, KillFlags

CAUGHT = {"identity": "WRONG VM"}
NAMES = ("SIGKILL to the VM that was started meanwhile", "{line}")
TRIAL = {"on_term": "ignore", "flags": KillFlags.FORCE, "at": {"before the relock": "restart"}}
EXPLORE = {"flags": KillFlags.FORCE, "on_term": "ignore", "contenders": "restart"}
EXPLORED = {"identity": "WRONG VM"}


def _wait(pidfd: int, seconds: float) -> bool:
    exited = select.poll()
    exited.register(pidfd, select.POLLIN)
    return bool(exited.poll(seconds * 1000))


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    assert domain.pid is not None
    pidfd = os.pidfd_open(domain.pid)
    domain.ref()
    try:
        os.kill(domain.pid, signal.SIGTERM)
        domain.lock.release()
        driver.lock.release()
        dead = _wait(pidfd, 0.2)
        driver.lock.acquire()
        domain.lock.acquire()
        if not dead and domain.pid is not None:
            os.kill(domain.pid, signal.SIGKILL)  # FLAW no-recheck: this is the pid of now
            return _wait(pidfd, 0.2)
        return dead
    finally:
        os.close(pidfd)
        domain.unref()
