"""SIGTERM, a bounded poll, SIGKILL, a bounded poll; the truth in the end."""

import os
import signal
import time

TRIAL = {"flush_time": 0.3, "force": True}


def _gone(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)


def destroy(pid: int) -> bool:
    os.kill(pid, signal.SIGTERM)
    if _gone(pid, 10):
        return True
    os.kill(pid, signal.SIGKILL)
    return _gone(pid, 5)
