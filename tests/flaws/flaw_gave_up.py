"""The promise is 5 s, and the wait has 0.3 s: a VM that would have ended in time is a failure."""

import psutil

CAUGHT = {"outcome": "GAVE UP"}
NAMES = "within the 5.00 s to survive"
TRIAL = {"flush_time": 0.8, "survive": 5.0}


def stop(process: psutil.Process) -> None:
    process.terminate()
    process.wait(0.3)  # FLAW gave-up: less than what is promised to the user
