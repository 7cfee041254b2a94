"""Who waits is cancelled, and that is read as 'the grace is over': containerd/cri#1098."""

import asyncio
import os
import signal

from pytest_gracekill.conformance.disturbances import keyboard_interrupt

CAUGHT = {"escalation": "KILLED EARLY", "data": "DATA LOST"}
NAMES = "SIGKILL"
TRIAL = {"flush_time": 2.0, "force": True}
WITHIN = keyboard_interrupt


async def _gone(pid: int) -> None:
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        await asyncio.sleep(0.02)


async def stop_container(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    try:
        await asyncio.wait_for(_gone(pid), 10)
    except (TimeoutError, asyncio.CancelledError):  # FLAW wait-cancelled-is-timeout: two things
        os.kill(pid, signal.SIGKILL)
        await _gone(pid)
