"""The pid was lost on the way, and its place-holder means every process: qore#5062."""

import os
import signal

CAUGHT = {"escalation": "STRANGER", "outcome": "LEAKED"}
NAMES = ("{line}", "pid -1 (every process)")
TRIAL = {"flush_time": 0.1}


class Guest:
    pid = -1


def destroy(pid: int) -> None:
    guest = Guest()
    try:
        os.kill(guest.pid, signal.SIGTERM)  # FLAW kill-0-or-minus-1: guest.pid was never set
    except PermissionError:
        pass
