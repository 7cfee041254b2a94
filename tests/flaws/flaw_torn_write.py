"""SIGKILL in the middle of a block: half of it is new, half of it is old: wmo-raf/adl#241."""

import os
import select
import signal

CAUGHT = {"data": "TORN", "escalation": "KILLED EARLY"}
NAMES = "blocks 0 half written"
# the first half is written in the middle of a block's time
TRIAL = {"flush_time": 2.0, "blocks": 1, "torn": True, "force": True}


def destroy(pid: int) -> bool:
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        if select.select([pidfd], [], [], 1.3)[0]:
            return True
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)  # FLAW torn-write: it writes right now
        return bool(select.select([pidfd], [], [], 5)[0])
    finally:
        os.close(pidfd)
