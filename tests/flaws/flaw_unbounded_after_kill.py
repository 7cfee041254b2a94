"""A wait without a limit, for something that never comes: moby#41579."""

import os
import signal
import threading

CAUGHT = {"promptness": "HUNG"}
NAMES = "{line}"
TRIAL = {"flush_time": 0.1, "budget": 1.0}


def destroy(pid: int) -> None:
    exit_file_seen = threading.Event()
    os.kill(pid, signal.SIGTERM)
    exit_file_seen.wait()  # FLAW unbounded-after-kill: who would have set it is dead
