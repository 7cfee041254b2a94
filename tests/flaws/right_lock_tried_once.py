"""A lock held over the wait that others try once, and do without: nobody wanted it."""

import os
import select
import signal
import threading


class _Manager:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.known = "running"

    def status(self) -> str:
        if self.lock.acquire(blocking=False):
            self.lock.release()
        return self.known


_manager = _Manager()

TRIAL = {"flush_time": 0.6, "contend": [_manager.status], "locks": [(_manager, "lock")]}


def destroy(pid: int) -> bool:
    pidfd = os.pidfd_open(pid)
    try:
        with _manager.lock:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            return bool(select.select([pidfd], [], [], 10)[0])
    finally:
        os.close(pidfd)
