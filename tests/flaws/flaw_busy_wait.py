"""It spins until the VM is gone, in the event loop of everybody: psutil#244."""

import os
import signal
import time

CAUGHT = {"progress": "STALLED"}
NAMES = "{line}"
TRIAL = {"flush_time": 0.9, "stall_limit": 0.3}


async def stop(pid: int) -> bool:
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)  # FLAW busy-wait: nothing is awaited
        except ProcessLookupError:
            return True
    return False
