"""A lock-dropping routine that somebody else would write: reference, drop, wait, take again."""

import os
import select
import signal

from pytest_gracekill import Domain, Driver, KillFlags

TRIAL = {"flush_time": 0.3, "flags": KillFlags.FORCE}


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
        try:
            if exited.poll(10_000):
                return True
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            return bool(exited.poll(5_000))
        finally:
            driver.lock.acquire()
            domain.lock.acquire()
    finally:
        domain.unref()
        os.close(pidfd)
