"""The lock is taken for moments only, also through a Condition that was made over it elsewhere."""

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

TRIAL = {"flush_time": 0.6, "contend": [_manager.status], "locks": [(_manager, "lock")]}


def destroy(pid: int) -> bool:
    pidfd = os.pidfd_open(pid)
    try:
        with _watcher.changed:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        ended = bool(select.select([pidfd], [], [], 10)[0])
        with _watcher.changed:
            _watcher.changed.notify_all()
        return ended
    finally:
        os.close(pidfd)
