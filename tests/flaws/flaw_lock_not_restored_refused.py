"""EPERM in the loop leaves it without the locks: podman 5bb8fa30b0."""

import os
import select
import signal

from pytest_gracekill import Domain, Driver, KillFlags
from pytest_gracekill.conformance.refusal import refused

CAUGHT = {"locks": "LOCK LOST"}
NAMES = "held at entry: driver and domain vm; at return: none"
TRIAL = {"flush_time": 0.1, "flags": KillFlags.FORCE}
WITHIN = refused


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    assert domain.pid is not None
    pidfd = os.pidfd_open(domain.pid)
    exited = select.poll()
    exited.register(pidfd, select.POLLIN)
    domain.ref()
    domain.lock.release()
    driver.lock.release()
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    except PermissionError:
        return False  # FLAW lock-not-restored: the way back is below
    finally:
        os.close(pidfd)
        domain.unref()
    dead = bool(exited.poll(10_000))
    driver.lock.acquire()
    domain.lock.acquire()
    return dead
