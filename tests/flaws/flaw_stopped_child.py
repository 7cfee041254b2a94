"""A VM that is stopped does not run, so it has ended: libvirt 6459af6a43."""

import time

import psutil

from pytest_gracekill import Stop

CAUGHT = {"outcome": "LEAKED"}
NAMES = "the VM lives on"
TRIAL = {"flush_time": 0.4, "on_term": Stop(at=32)}
AT_WORK = (psutil.STATUS_RUNNING, psutil.STATUS_SLEEPING, psutil.STATUS_DISK_SLEEP)


def destroy(process: psutil.Process) -> bool:
    process.terminate()
    deadline = time.monotonic() + 5
    while process.status() in AT_WORK:  # FLAW stopped-child: T is none of them, and no end
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
