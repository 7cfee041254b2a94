"""The event thread is joined by who holds the lock that it needs: 860a999802^."""

import os
import select
import threading

from pytest_gracekill import Domain, Driver, KillFlags, KillResult, process_kill

CAUGHT = {"promptness": "HUNG"}
NAMES = "{line}"
TRIAL = {"flush_time": 0.05, "flags": KillFlags.FORCE, "budget": 1.0}
EXPLORE = {"flags": KillFlags.FORCE, "flush_time": 0.1, "contenders": ()}
EXPLORED = {"deadlock": "DEADLOCK"}


def _deliver_events(domain: Domain, pidfd: int) -> None:
    exited = select.poll()
    exited.register(pidfd, select.POLLIN)
    exited.poll(10_000)
    with domain.lock:
        domain.sent.clear()


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    assert domain.pid is not None
    pidfd = os.pidfd_open(domain.pid)
    domain.ref()
    events = threading.Thread(target=_deliver_events, args=(domain, pidfd), daemon=True)
    result = process_kill(driver, domain, flags)
    try:
        events.start()
        events.join()  # FLAW join-under-lock: its last event waits for the domain's lock
    finally:
        domain.unref()
        os.close(pidfd)
    return result
