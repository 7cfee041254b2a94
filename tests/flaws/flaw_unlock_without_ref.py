"""Freed while its lock is let go: the NB of the seed, libvirt before 540c339a25."""

import os
import select
import signal

from pytest_gracekill import Domain, Driver, KillFlags

CAUGHT = {"identity": "FREED"}
NAMES = ("used domain vm (lock) after its last reference was dropped", "in destroy")
TRIAL = {"flush_time": 0.1, "flags": KillFlags.FORCE, "at": {"unlocked": "undefine"}}
EXPLORE = {"flags": KillFlags.FORCE, "flush_time": 0.1, "contenders": "undefine"}
EXPLORED = {"identity": "FREED"}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    assert domain.pid is not None
    pidfd = os.pidfd_open(domain.pid)
    exited = select.poll()
    exited.register(pidfd, select.POLLIN)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        domain.lock.release()  # FLAW unlock-without-ref: nothing keeps the domain from here on
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
        os.close(pidfd)
