"""SIGKILL was promised and never comes: truenas/middleware#19000."""

import time

import psutil

CAUGHT = {"escalation": "NEVER KILLED"}
NAMES = "SIGKILL never came"
TRIAL = {"on_term": "ignore", "force": True}


def stop(process: psutil.Process) -> bool:
    process.terminate()
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False  # FLAW escalation-missing: force was promised
