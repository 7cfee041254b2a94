"""On the way out of a failure nobody wakes who waits for the stop: libvirt 1ec03c8772."""

import os
import select
import signal
import threading
import time

from pytest_gracekill import Domain, Driver, KillFlags

_changed = threading.Condition()


def _await_the_waiter(_driver: Driver, _domain: Domain) -> None:
    deadline = time.monotonic() + 4
    while not _changed._waiters and time.monotonic() < deadline:  # type: ignore[attr-defined]
        time.sleep(0.002)


CAUGHT = {"promptness": "HUNG"}
NAMES = ("caller-2: cut off after its budget", "in _join")
TRIAL = {
    "on_term": "ignore",
    "flags": 0,
    "contenders": ("other", "same"),
    "callers": 2,
    "budget": 1.0,
    "at": {"unlocked": _await_the_waiter},
}


def _join(driver: Driver, domain: Domain) -> bool:
    domain.ref()
    domain.lock.release()
    driver.lock.release()
    with _changed:
        while domain.being_destroyed:
            _changed.wait()
    driver.lock.acquire()
    domain.lock.acquire()
    domain.unref()
    return not domain.active


def shut_down(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    if domain.being_destroyed:
        return _join(driver, domain)
    run = domain.incarnation
    assert run is not None
    pidfd = os.pidfd_open(run.pid)
    exited = select.poll()
    exited.register(pidfd, select.POLLIN)
    domain.ref()
    domain.being_destroyed = True
    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    domain.lock.release()
    driver.lock.release()
    dead = bool(exited.poll(200))
    driver.lock.acquire()
    domain.lock.acquire()
    domain.being_destroyed = False
    domain.unref()
    os.close(pidfd)
    if not dead:
        return False  # FLAW waiter-not-woken: only success is announced
    domain.clean_up(run)
    with _changed:
        _changed.notify_all()
    return True
