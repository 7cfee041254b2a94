"""'(step == last) & flag' works while the flag is 1, and this one is 2: libvirt 4d2a8a0a0c."""

import os
import signal
import time

from pytest_gracekill import Domain, Driver, KillFlags

_GRACEFUL, _FORCE = 1, 2
_LAST_STEP = 10

CAUGHT = {"escalation": "NEVER KILLED"}
NAMES = "SIGKILL never came"
TRIAL = {"on_term": "ignore", "flags": KillFlags.FORCE}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    pid = domain.pid
    assert pid is not None
    how = _FORCE if flags & KillFlags.FORCE else _GRACEFUL
    domain.ref()
    domain.lock.release()
    driver.lock.release()
    try:
        os.kill(pid, signal.SIGTERM)
        for step in range(2 * _LAST_STEP):
            time.sleep(0.02)
            # FLAW escalation-missing: True & 2 is 0
            os.kill(pid, signal.SIGKILL if (step == _LAST_STEP) & how else 0)
    except ProcessLookupError:
        return True
    else:
        return False
    finally:
        driver.lock.acquire()
        domain.lock.acquire()
        domain.unref()
