"""SIGKILL goes to a number, and that is another process's by now: proxmox 281fa1491f."""

import os
import signal
import time

CAUGHT = {"escalation": "STRANGER"}
NAMES = ("{line}", "SIGKILL to a stranger")
TRIAL = {"flush_time": 0.1, "reuse_pid": True, "topology": "reaped"}
APART = True


def destroy(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    time.sleep(1.2)
    try:
        os.kill(pid, signal.SIGKILL)  # FLAW pid-reuse: a pidfd from before would have known
    except ProcessLookupError:
        pass
