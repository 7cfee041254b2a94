"""The lock is let go and taken again round every sleep: the first version of the seed's patch.

Each time somebody else is faster, and the grace that is counted in steps has no end.
"""

import os
import signal
import threading
import time

_GRACE_STEPS = 80


class _Manager:
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def list_all(self) -> None:
        with self.lock:
            time.sleep(0.012)  # storage is slow today


_manager = _Manager()

CAUGHT = {"promptness": "HUNG"}
NAMES = "in destroy"
TRIAL = {
    "on_term": "ignore",
    "contend": [_manager.list_all, _manager.list_all],
    "locks": [(_manager, "lock")],
    "budget": 0.8,
    "force": True,
}


def destroy(pid: int) -> bool:
    with _manager.lock:
        os.kill(pid, signal.SIGTERM)
        for step in range(2 * _GRACE_STEPS):
            try:
                os.kill(pid, signal.SIGKILL if step == _GRACE_STEPS else 0)
            except ProcessLookupError:
                return True
            _manager.lock.release()
            time.sleep(0.005)
            _manager.lock.acquire()  # FLAW lock-churn-starvation: 80 times, for 0.4 s of grace
        return False
