"""Nothing survives SIGKILL, so nobody looks for long: moby#22802, a process in D state."""

import os
import select
import signal

CAUGHT = {"outcome": "EARLY"}
NAMES = "the VM still ran, and exited at"
TRIAL = {"on_term": "ignore", "survives_kill": 1.0, "force": True}


def destroy(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        if not select.select([pidfd], [], [], 0.2)[0]:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], 0.2)  # FLAW d-state: what it says is not looked at
    finally:
        os.close(pidfd)
