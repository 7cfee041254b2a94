"""A look every other second: the exit is noticed long after it: podman c34b5be990."""

import asyncio
import os
import signal

CAUGHT = {"promptness": "SLOW"}
NAMES = "after the exit"
TRIAL = {"flush_time": 0.1}


async def stop(pid: int) -> bool:
    os.kill(pid, signal.SIGTERM)
    for _ in range(5):
        await asyncio.sleep(1.5)  # FLAW slow-wake: it is gone after a tenth of a second
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
    return False
