"""An executor's thread waits for the exit; the caller waits for its future without the locks."""

import os
import select
import signal
from concurrent.futures import ThreadPoolExecutor

from pytest_gracekill import Domain, Driver, KillFlags

TRIAL = {"flush_time": 0.3, "flags": KillFlags.FORCE}


def _end(pidfd: int) -> bool:
    exited = select.poll()
    exited.register(pidfd, select.POLLIN)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    except ProcessLookupError:  # somebody else was sooner
        return True
    if exited.poll(10_000):
        return True
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    return bool(exited.poll(5_000))


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    run = domain.incarnation
    if run is None:
        return True
    pidfd = os.pidfd_open(run.pid)
    domain.ref()
    domain.being_destroyed = True
    try:
        with ThreadPoolExecutor(1) as waiting:
            dead = waiting.submit(_end, pidfd)
            domain.lock.release()
            driver.lock.release()
            try:
                dead.result()
            finally:
                driver.lock.acquire()
                domain.lock.acquire()
        if dead.result():
            domain.clean_up(run)
        return dead.result()
    finally:
        domain.being_destroyed = False
        domain.unref()
        os.close(pidfd)
