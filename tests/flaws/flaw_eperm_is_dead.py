"""EPERM is taken for 'gone', and what the running VM needs is removed: cdalar/onctl#1082."""

import os
import signal
import time

from pytest_gracekill.conformance.refusal import refused

CAUGHT = {"outcome": "LEAKED"}
NAMES = "the VM lives on"
TRIAL = {"flush_time": 0.2}
WITHIN = refused


def destroy(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGTERM)
        for _ in range(500):
            os.kill(pid, 0)
            time.sleep(0.02)
    except OSError:  # FLAW eperm-is-dead: ESRCH says that, EPERM says the opposite
        return True
    return False
