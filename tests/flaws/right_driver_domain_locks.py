"""No driver lock at all over the stop: per-domain locks, taken and let go on their own."""

import os
import signal
import time

from pytest_gracekill import Domain, Driver, KillFlags
from pytest_gracekill.routine.incarnation import Incarnation, start_time

TRIAL = {"flush_time": 0.3, "flags": KillFlags.FORCE, "lookup": "referenced"}


def _gone(run: Incarnation, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while start_time(run.pid) == run.started:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _signal(run: Incarnation, signum: int) -> None:
    try:
        pidfd = os.pidfd_open(run.pid)
    except ProcessLookupError:
        return
    try:
        if start_time(run.pid) == run.started:
            signal.pidfd_send_signal(pidfd, signum)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    run = domain.incarnation
    if run is None:
        return True
    domain.ref()
    domain.being_destroyed = True
    domain.lock.release()
    driver.lock.release()
    try:
        _signal(run, signal.SIGTERM)
        dead = _gone(run, 10)
        if not dead:
            _signal(run, signal.SIGKILL)
            dead = _gone(run, 5)
        with domain.lock:
            if dead:
                domain.clean_up(run)
            domain.being_destroyed = False
        return dead
    finally:
        driver.lock.acquire()
        domain.lock.acquire()
        domain.unref()
