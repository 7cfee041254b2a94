"""Crosswise for a moment, when both have slept for equally long: no stress test ever met it."""

import threading
import time

EXPLORED = {"deadlock": "DEADLOCK"}


class _Manager:
    def __init__(self) -> None:
        self.images, self.networks = threading.Lock(), threading.Lock()


def snapshot(manager: _Manager) -> None:
    with manager.images, manager.networks:
        pass
    time.sleep(10)
    with manager.networks, manager.images:  # FLAW lock-order: it was the other way round before
        pass


def attach(manager: _Manager) -> None:
    time.sleep(10)
    with manager.images, manager.networks:
        pass


SETUP = _Manager
BODIES = (snapshot, attach)
