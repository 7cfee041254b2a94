"""The wait begins without another look, and what it waits for has come already."""

import threading

from pytest_gracekill import Domain, Driver, KillFlags, KillResult, process_kill

_stopped = threading.Condition()


def _monitor_is_faster(driver: Driver, domain: Domain) -> None:
    """The domain's end is seen by another thread, which says so to whoever waits by then."""
    run = domain.incarnation
    assert run is not None
    with driver.lock, domain.lock:
        process_kill(driver, domain, KillFlags.FORCE)
        domain.clean_up(run)
    with _stopped:
        _stopped.notify_all()


CAUGHT = {"promptness": "HUNG"}
NAMES = "{line}"
TRIAL = {
    "flush_time": 0.05,
    "flags": KillFlags.FORCE,
    "contenders": ("other", "same"),
    "budget": 1.0,
    "at": {"unlocked": _monitor_is_faster},
}
EXPLORE = {"flags": KillFlags.FORCE, "flush_time": 0.1, "contenders": ("same", "other")}
EXPLORED = {"deadlock": "DEADLOCK"}
LOCKS = ("_stopped",)


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    domain.ref()
    process_kill(driver, domain, KillFlags.NOWAIT)
    domain.lock.release()
    driver.lock.release()
    try:
        with _stopped:
            _stopped.wait()  # FLAW lost-wakeup: 'while domain.active', or it may be for ever
    finally:
        driver.lock.acquire()
        domain.lock.acquire()
        domain.unref()
    return KillResult(ok=True, dead=True, signal=15)
