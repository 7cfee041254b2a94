"""SIGTERM at every poll: a program that takes the second one as 'stop flushing' loses data."""

import os
import signal
import time

CAUGHT = {"escalation": "REPEATED", "data": "DATA LOST"}
NAMES = "stop signals for one VM"
TRIAL = {"flush_time": 0.6, "on_second_term": "abort"}


def destroy(pid: int) -> None:
    for _ in range(100):
        try:
            os.kill(pid, signal.SIGTERM)  # FLAW second-sigterm-aborts: cockroach#50539
        except ProcessLookupError:
            return
        time.sleep(0.1)
