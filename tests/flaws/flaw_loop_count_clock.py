"""Ten turns are taken for a second, whatever a turn costs: nova b32d01d44c."""

import os
import signal
import time

CAUGHT = {"promptness": "HUNG"}
NAMES = "destroy"
# a second of grace, and one more for the rest
TRIAL = {"on_term": "ignore", "force": True, "budget": 1.2}


def _running(pid: int) -> bool:
    time.sleep(0.2)  # what the hypervisor takes for an answer
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def destroy(pid: int) -> bool:
    os.kill(pid, signal.SIGTERM)
    for _ in range(10):
        if not _running(pid):
            return True
        time.sleep(0.1)  # FLAW loop-count-clock: a turn takes three tenths
    os.kill(pid, signal.SIGKILL)
    return not _running(pid)
