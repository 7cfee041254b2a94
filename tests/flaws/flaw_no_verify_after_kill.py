"""'Stopped' is reported after SIGTERM alone: ClusterLabs/resource-agents#757."""

import os
import signal

CAUGHT = {"outcome": "EARLY"}
NAMES = "the VM still ran, and exited at"
TRIAL = {"flush_time": 0.4}


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    # FLAW no-verify-after-kill: nobody looked whether it is gone
