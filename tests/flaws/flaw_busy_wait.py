"""It spins in the event loop, so that not even its own timeout can come: psutil#244."""

import asyncio
import os
import signal

CAUGHT = {"promptness": "HUNG"}
NAMES = "flaw_busy_wait.py"
TRIAL = {"on_term": "ignore", "budget": 0.8}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def stop(pid: int) -> bool:
    os.kill(pid, signal.SIGTERM)
    try:
        async with asyncio.timeout(0.3):  # noqa: ASYNC100 - ruff sees it, too
            while _alive(pid):  # FLAW busy-wait: nothing is awaited
                pass
    except TimeoutError:
        return False
    return True
