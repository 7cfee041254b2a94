"""The end-of-file handler cleans up, and its thread is joined without the locks; then a look."""

import threading

from pytest_gracekill import Domain, Driver, KillFlags, KillPolicy, KillResult, process_kill
from pytest_gracekill.routine.callers import monitor_eof

TRIAL = {"flush_time": 0.3, "flags": KillFlags.FORCE}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    run = domain.incarnation
    if run is None:
        return KillResult(ok=True, dead=True)
    domain.ref()
    try:
        result = process_kill(driver, domain, flags, policy=KillPolicy(wait="poll", poll=0.02))
        if not result.dead:
            return result
        handler = threading.Thread(target=monitor_eof, args=(driver, domain.name, run), daemon=True)
        domain.lock.release()
        driver.lock.release()
        try:
            handler.start()
            handler.join(5)
        finally:
            driver.lock.acquire()
            domain.lock.acquire()
        # it finds no domain that is not on the list any more
        domain.clean_up(run)
        return result
    finally:
        domain.unref()
