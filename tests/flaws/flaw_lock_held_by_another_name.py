"""The lock is held over the wait through a Condition that was made over it elsewhere."""

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


class _Watcher:
    def __init__(self, manager: _Manager) -> None:
        self.changed = threading.Condition(manager.lock)


_manager = _Manager()
_watcher = _Watcher(_manager)

CAUGHT = {"locks": "HELD OVER WAIT", "progress": "STALLED"}
NAMES = ("through a reference not traced: _watcher in ", "wanted meanwhile by _Manager.status")
TRIAL = {"flush_time": 0.6, "contend": [_manager.status], "locks": [(_manager, "lock")]}


def destroy(pid: int) -> bool:
    pidfd = os.pidfd_open(pid)
    try:
        with _watcher.changed:  # FLAW lock-held-over-wait: the manager's lock by another name
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            return bool(select.select([pidfd], [], [], 10)[0])
    finally:
        os.close(pidfd)
