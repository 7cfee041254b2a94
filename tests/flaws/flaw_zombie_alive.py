"""kill(pid, 0) reaches a zombie, so the whole grace is waited for: OpenRC#252."""

import os
import signal
import time

CAUGHT = {"promptness": "SLOW"}
NAMES = "after the exit"
TRIAL = {"flush_time": 0.1, "topology": "zombie", "reaper_delay": 1.5}


def destroy(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    while True:
        try:
            os.kill(pid, 0)  # FLAW zombie-alive: it has exited, its parent has not looked yet
        except ProcessLookupError:
            return
        time.sleep(0.02)
