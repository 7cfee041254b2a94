"""A container's init takes SIGPWR for 'shut down', QEMU dies of it: bhyve c35c2fe78e."""

import os
import signal
import time

CAUGHT = {"data": "DATA LOST"}
NAMES = "never on disk"
TRIAL = {"flush_time": 0.3}


def stop(pid: int) -> bool:
    os.kill(pid, signal.SIGPWR)  # FLAW wrong-signal-semantics: nobody has a handler for it
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False
