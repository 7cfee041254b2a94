"""The lock is held over the wait, and who wants it tries again and again: nobody ever blocks."""

import os
import select
import signal
import threading
import time


class _Manager:
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def status(self) -> str:
        while not self.lock.acquire(blocking=False):
            time.sleep(0.005)
        self.lock.release()
        return "running"


_manager = _Manager()

CAUGHT = {"locks": "HELD OVER WAIT", "progress": "STALLED"}
NAMES = ("{line}", "wanted meanwhile by _Manager.status")
TRIAL = {"flush_time": 0.6, "contend": [_manager.status], "locks": [(_manager, "lock")]}


def destroy(pid: int) -> bool:
    pidfd = os.pidfd_open(pid)
    try:
        with _manager.lock:  # FLAW lock-held-over-wait: an operation that goes on trying waits, too
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            return bool(select.select([pidfd], [], [], 10)[0])
    finally:
        os.close(pidfd)
