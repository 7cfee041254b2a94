"""A job of the domain: whoever comes second waits on a condition for the first one's stop."""

import os
import select
import signal
import threading

from pytest_gracekill import Domain, Driver, KillFlags

_changed = threading.Condition()

TRIAL = {"flush_time": 0.3, "flags": KillFlags.FORCE, "callers": 2}


def _exited(pidfd: int, seconds: float) -> bool:
    exited = select.poll()
    exited.register(pidfd, select.POLLIN)
    return bool(exited.poll(seconds * 1000))


def _stop(driver: Driver, domain: Domain) -> bool:
    run = domain.incarnation
    assert run is not None
    pidfd = os.pidfd_open(run.pid)
    domain.being_destroyed = True
    dead = False
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        domain.lock.release()
        driver.lock.release()
        try:
            dead = _exited(pidfd, 10)
            if not dead:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                dead = _exited(pidfd, 5)
        finally:
            driver.lock.acquire()
            domain.lock.acquire()
        if dead:
            domain.clean_up(run)
        return dead
    finally:
        with _changed:
            if domain.incarnation in (run, None):
                domain.being_destroyed = False
            _changed.notify_all()
        os.close(pidfd)


def _join(driver: Driver, domain: Domain) -> bool:
    run = domain.incarnation

    def goes_on() -> bool:
        return domain.being_destroyed and domain.incarnation == run

    domain.lock.release()
    driver.lock.release()
    try:
        with _changed:
            while goes_on():
                _changed.wait(0.5)  # a restart is told to nobody
    finally:
        driver.lock.acquire()
        domain.lock.acquire()
    return domain.incarnation != run


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    if not domain.active:
        return True
    domain.ref()
    try:
        return _join(driver, domain) if domain.being_destroyed else _stop(driver, domain)
    finally:
        domain.unref()
