"""^C in the wait leaves it without the locks; 'except Exception' is not for that."""

import os
import select
import signal

from pytest_gracekill import Domain, Driver, KillFlags
from pytest_gracekill.conformance.disturbances import keyboard_interrupt

CAUGHT = {"locks": "LOCK LOST"}
NAMES = "held at entry: driver and domain vm; at return: none"
TRIAL = {"flush_time": 0.7, "flags": KillFlags.FORCE}
WITHIN = keyboard_interrupt


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    assert domain.pid is not None
    pidfd = os.pidfd_open(domain.pid)
    exited = select.poll()
    exited.register(pidfd, select.POLLIN)
    domain.ref()
    domain.lock.release()
    driver.lock.release()
    dead = False
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        dead = bool(exited.poll(10_000))
    except Exception:  # noqa: BLE001 # FLAW lock-not-restored: a KeyboardInterrupt is no Exception
        dead = False
    driver.lock.acquire()
    domain.lock.acquire()
    domain.unref()
    os.close(pidfd)
    return dead
