"""Two of the manager's threads take its two locks crosswise, while a third stops a VM."""

import os
import select
import signal
import threading


class _Pool:
    def __init__(self) -> None:
        self.lock = threading.Lock()


_images, _networks = _Pool(), _Pool()


def _snapshot() -> None:
    with _images.lock, _networks.lock:
        pass


def _attach() -> None:
    with _networks.lock, _images.lock:  # FLAW lock-order: there it is the other way round
        pass


CAUGHT = {"deadlock": ("DEADLOCK", "LOCK ORDER")}
NAMES = ("_Pool.lock-2", "{line}", "in _snapshot")
TRIAL = {
    "flush_time": 0.2,
    "contend": [_snapshot, _attach],
    "locks": [(_images, "lock"), (_networks, "lock")],
}
EXPLORE = {**TRIAL, "flush_time": 0.1}
EXPLORED = {"deadlock": "DEADLOCK"}


def stop(pid: int) -> bool:
    pidfd = os.pidfd_open(pid)
    exited = select.poll()
    exited.register(pidfd, select.POLLIN)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        return bool(exited.poll(10_000))
    finally:
        os.close(pidfd)
