"""It cleans up nothing itself: the end-of-file handler does, and is waited for, by its run."""

import threading
import time

from pytest_gracekill import Domain, Driver, KillFlags, KillPolicy, KillResult, process_kill
from pytest_gracekill.routine.callers import monitor_eof

TRIAL = {"flush_time": 0.3, "flags": KillFlags.FORCE}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    run = domain.incarnation
    if run is None:
        return KillResult(ok=True, dead=True)
    domain.ref()
    result = process_kill(driver, domain, flags, policy=KillPolicy(wait="poll", poll=0.02))
    handler = threading.Thread(target=monitor_eof, args=(driver, domain.name, run), daemon=True)
    domain.lock.release()
    driver.lock.release()
    try:
        if result.dead:
            handler.start()
        deadline = time.monotonic() + 5
        while result.dead and domain.incarnation == run and time.monotonic() < deadline:
            time.sleep(0.005)
        return result
    finally:
        driver.lock.acquire()
        domain.lock.acquire()
        domain.unref()
