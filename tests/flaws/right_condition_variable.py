"""A thread waits for the exit, and tells it when the state has changed: a condition variable."""

import subprocess
import threading

TRIAL = {"flush_time": 0.3, "force": True}


class _Guest:
    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        self.changed = threading.Condition()
        self.status: int | None = None
        self._popen = popen
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        status = self._popen.wait()
        with self.changed:
            self.status = status
            self.changed.notify_all()

    def ended(self, seconds: float) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.status is not None, seconds)


def destroy(popen: "subprocess.Popen[bytes]") -> bool:
    guest = _Guest(popen)
    popen.terminate()
    if guest.ended(10):
        return True
    popen.kill()
    return guest.ended(5)
