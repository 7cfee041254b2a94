"""The lock is taken and never let go: whoever works beside it does not come back."""

import os
import select
import signal
import threading


class _Manager:
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def status(self) -> str:
        with self.lock:
            return "running"


_manager = _Manager()

CAUGHT = {"progress": "STALLED"}
NAMES = "_Manager.status had not come back "
TRIAL = {"flush_time": 0.3, "contend": [_manager.status], "stall_limit": 0.5}
# so that no thread of a contender waits until the process ends
AFTER = _manager.lock.release


def destroy(pid: int) -> bool:
    pidfd = os.pidfd_open(pid)
    try:
        _manager.lock.acquire()  # FLAW lock-not-restored: no release on any path
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        return bool(select.select([pidfd], [], [], 10)[0])
    finally:
        os.close(pidfd)
