"""The timeout path falls into 'return 0': libvirt 93af79fba3."""

import os
import signal
import time

CAUGHT = {"outcome": "LEAKED"}
NAMES = "returned 0; the VM lives on"
TRIAL = {"on_term": "ignore"}


def destroy(pid: int) -> int:
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.02)
    return 0  # FLAW timeout-returns-success: also when the loop ran out
