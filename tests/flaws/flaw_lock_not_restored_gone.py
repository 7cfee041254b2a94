"""'No such process' is the best of news, and returns without the locks: podman 5bb8fa30b0."""

import os
import signal
import time

from pytest_gracekill import Domain, Driver, KillFlags

CAUGHT = {"locks": "LOCK LOST"}
NAMES = "held at entry: driver and domain vm; at return: none"
TRIAL = {"flush_time": 0.1, "flags": KillFlags.FORCE}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    pid = domain.pid
    assert pid is not None
    domain.ref()
    os.kill(pid, signal.SIGTERM)
    domain.lock.release()
    driver.lock.release()
    try:
        for step in range(750):
            time.sleep(0.02)
            os.kill(pid, signal.SIGKILL if step == 500 else 0)
    except ProcessLookupError:
        return True  # FLAW lock-not-restored: the only way out that is ever taken
    finally:
        domain.unref()
    driver.lock.acquire()
    domain.lock.acquire()
    return False
