"""To stop it needs the domain's job, whose holder waits for an answer of the VM: 2c2effa1d7."""

import os
import select
import signal
import threading

from pytest_gracekill import Domain, Driver, KillFlags

_job = threading.Lock()


def _exited(pidfd: int, seconds: float) -> bool:
    exited = select.poll()
    exited.register(pidfd, select.POLLIN)
    return bool(exited.poll(seconds * 1000))


def _query_hangs(_driver: Driver, domain: Domain) -> None:
    """Another thread has a query out to a VM that does not answer any more."""
    assert domain.pid is not None
    pidfd = os.pidfd_open(domain.pid)
    asked = threading.Event()

    def query() -> None:
        with _job:
            asked.set()
            _exited(pidfd, 10)
        os.close(pidfd)

    threading.Thread(target=query, daemon=True).start()
    asked.wait(5)


CAUGHT = {"promptness": "HUNG"}
NAMES = "{line}"
TRIAL = {
    "flush_time": 0.1,
    "flags": KillFlags.FORCE,
    "budget": 0.8,
    "at": {"unlocked": _query_hangs},
}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    assert domain.pid is not None
    pidfd = os.pidfd_open(domain.pid)
    domain.ref()
    domain.lock.release()
    driver.lock.release()
    try:
        with _job:  # FLAW job-blocks-stop: the signal first, which frees who has it
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        return _exited(pidfd, 10)
    except ProcessLookupError:
        return True
    finally:
        driver.lock.acquire()
        domain.lock.acquire()
        domain.unref()
        os.close(pidfd)
