"""SIGTERM goes to the launcher, which has ended long ago; the VM is killed without a request."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator

from pytest_gracekill import Child

CAUGHT = {"escalation": "NEVER ASKED", "data": "DATA LOST"}
NAMES = ("no stop request reached the VM", "not the VM", "nothing was flushed")
TRIAL = {"flush_time": 0.4}


def manage(child: Child) -> Iterator[Callable[[], None]]:
    launcher = subprocess.Popen(["true"])
    launcher.wait()
    process = subprocess.Popen(child.argv)
    child.wait_ready()

    def stop() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(launcher.pid, signal.SIGTERM)  # FLAW wrong-pid: the launcher is no VM
        try:
            process.wait(0.6)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    yield stop
