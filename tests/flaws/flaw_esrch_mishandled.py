"""It ended just before its SIGKILL, and that is reported as a failure: ganeti 3782acd74."""

import os
import signal
import time

CAUGHT = {"outcome": "LIED"}
NAMES = "the VM was dead since"
TRIAL = {"flush_time": 0.1}


def kill_process(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.4)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False  # FLAW esrch-mishandled: "failed to kill", as nobody is there
    return True
