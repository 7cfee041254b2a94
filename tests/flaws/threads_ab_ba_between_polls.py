"""Crosswise between two polls: 7 s are none of their moments, unless one of them comes late."""

import threading
import time

EXPLORED = {"deadlock": "DEADLOCK"}
#: Time passes only while nobody can go on: the two never meet.
HOLDS_UNDER = "jump"


class _Manager:
    def __init__(self) -> None:
        self.images, self.networks = threading.Lock(), threading.Lock()


def poll(manager: _Manager) -> None:
    for _ in range(2):
        time.sleep(5)
        with manager.networks, manager.images:  # FLAW lock-order: the other one's is the reverse
            pass


def attach(manager: _Manager) -> None:
    time.sleep(7)
    with manager.images, manager.networks:
        pass


SETUP = _Manager
BODIES = (poll, attach)
