"""A second stop is taken for impatience, and cuts the first one's grace short: kubernetes#8641."""

import os
import select
import signal
import threading

from pytest_gracekill import Domain, Driver, KillFlags

_second = threading.Event()

CAUGHT = {"escalation": "KILLED EARLY", "data": "DATA LOST"}
NAMES = "the flush needed 0.80 s"
TRIAL = {
    "flush_time": 0.8,
    "flags": KillFlags.FORCE,
    "contenders": ("other", "same"),
    "callers": 2,
    "at": {"unlocked": lambda _driver, _domain: _second.wait(4)},
}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    pid = domain.pid
    assert pid is not None
    pidfd = os.pidfd_open(pid)
    exited = select.poll()
    exited.register(pidfd, select.POLLIN)
    domain.ref()
    if domain.being_destroyed:
        # FLAW stopper-vs-stopper-signal: the VM has its grace from the first
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        _second.set()
    else:
        domain.being_destroyed = True
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    domain.lock.release()
    driver.lock.release()
    dead = bool(exited.poll(10_000))
    driver.lock.acquire()
    domain.lock.acquire()
    domain.unref()
    os.close(pidfd)
    return dead
