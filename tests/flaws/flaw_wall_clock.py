"""The deadline is one of the wall clock, and that is set meanwhile: mitogen#200."""

import os
import signal
import time
from functools import partial

from pytest_gracekill.conformance.wallclock import clock_set

CAUGHT = {"escalation": "KILLED EARLY", "data": "DATA LOST"}
NAMES = "SIGKILL"
TRIAL = {"flush_time": 2.0, "force": True}
WITHIN = partial(clock_set, hours=2)


def _gone(pid: int, seconds: float) -> bool:
    deadline = time.time() + seconds  # FLAW wall-clock: it is set when the network is there
    while time.time() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def destroy(pid: int) -> bool:
    os.kill(pid, signal.SIGTERM)
    if _gone(pid, 30):
        return True
    os.kill(pid, signal.SIGKILL)
    return _gone(pid, 5)
