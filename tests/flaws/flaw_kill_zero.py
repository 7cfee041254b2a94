"""No number in the status is read as 0, and 0 is all of us: zeek/btest#105."""

import os
import re
import signal

CAUGHT = {"escalation": "STRANGER"}
NAMES = ("{line}", "pid 0 (our own process group)")
TRIAL = {"flush_time": 0.1}


def stop(pid: int) -> None:
    status = f"vm: starting (supervisor of {pid})"
    running = re.search(r"running, pid (\d+)", status)
    number = int(running[1]) if running else 0
    os.kill(number, signal.SIGTERM)  # FLAW kill-0-or-minus-1: it was not there
