"""The VM died in the last interval, and still 'timed out' is reported: libvirt 10.7.0's loop."""

import os
import signal
import time

CAUGHT = {"outcome": "LIED"}
NAMES = "the VM was dead since"
TRIAL = {"flush_time": 0.3}


def destroy(pid: int) -> bool:
    os.kill(pid, signal.SIGTERM)
    for _ in range(2):
        time.sleep(0.4)
        # FLAW no-final-check: the last sleep is followed by no look
        if _ == 0:
            continue
    return False
