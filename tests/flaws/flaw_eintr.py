"""A wait that any signal ends is taken for the VM's end: libvirt 69d044c034."""

import signal

import psutil

from pytest_gracekill.conformance.disturbances import interrupted_waits

CAUGHT = {"outcome": "EARLY"}
NAMES = "the VM still ran, and exited at"
TRIAL = {"flush_time": 0.5}
WITHIN = interrupted_waits


def stop(process: psutil.Process) -> None:
    before = signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)
    try:
        process.terminate()
        signal.pause()  # FLAW eintr: it may have been another signal than SIGCHLD
    finally:
        signal.signal(signal.SIGCHLD, before)
