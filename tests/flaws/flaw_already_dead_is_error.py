"""An end of the VM that was asked for is raised as an error: podman 067442b570."""

import os
import signal
import time

CAUGHT = {"outcome": "RAISED"}
NAMES = "ProcessLookupError"
TRIAL = {"flush_time": 0.1}


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    while True:
        time.sleep(0.05)
        os.kill(pid, 0)  # FLAW already-dead-is-error: ESRCH is what we wait for
