"""Who waits for the end of the stop is woken before that has come: libvirt 364995ed57^."""

import os
import select
import signal
import threading
import time

from pytest_gracekill import Domain, Driver, KillFlags

_changed = threading.Condition()


def _await_the_waiter(_driver: Driver, _domain: Domain) -> None:
    """Until the second caller waits: at first, and again after it was woken."""
    deadline = time.monotonic() + 4
    while not _changed._waiters and time.monotonic() < deadline:  # type: ignore[attr-defined]
        time.sleep(0.002)


CAUGHT = {"promptness": "HUNG"}
NAMES = ("caller-2: cut off after its budget", "in _join")
TRIAL = {
    "flush_time": 0.1,
    "flags": KillFlags.FORCE,
    "contenders": ("other", "same"),
    "callers": 2,
    "budget": 1.0,
    "at": {"unlocked": _await_the_waiter, "before the relock": _await_the_waiter},
}
EXPLORE = {"flags": KillFlags.FORCE, "flush_time": 0.1, "contenders": "same", "callers": 2}
EXPLORED = {"deadlock": "DEADLOCK"}
LOCKS = ("_changed",)


def _join(driver: Driver, domain: Domain) -> bool:
    domain.ref()
    domain.lock.release()
    driver.lock.release()
    with _changed:
        while domain.active:
            _changed.wait()
    driver.lock.acquire()
    domain.lock.acquire()
    domain.unref()
    return True


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    if not domain.active:
        return True
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
    dead = bool(exited.poll(10_000))
    with _changed:
        _changed.notify_all()  # FLAW lost-wakeup: it looks, sees an active domain, waits again
    driver.lock.acquire()
    domain.lock.acquire()
    if dead:
        domain.clean_up(run)
    domain.being_destroyed = False
    domain.unref()
    os.close(pidfd)
    return dead
