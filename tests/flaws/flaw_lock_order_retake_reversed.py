"""Taken again in the order in which they were let go: domain, then driver."""

import os
import select
import signal

from pytest_gracekill import Domain, Driver, KillFlags

CAUGHT = {"deadlock": ("DEADLOCK", "LOCK ORDER")}
NAMES = "{line}"
TRIAL = {"flush_time": 0.2, "flags": KillFlags.FORCE}
EXPLORE = {"flags": KillFlags.FORCE, "flush_time": 0.1, "contenders": "same"}
EXPLORED = {"deadlock": "DEADLOCK"}


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
            return bool(exited.poll(10_000))
        finally:
            domain.lock.acquire()
            driver.lock.acquire()  # FLAW lock-order-retake: in everybody else's code it comes first
    finally:
        domain.unref()
        os.close(pidfd)
