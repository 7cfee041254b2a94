"""The VM's whole group gets the signal, and we are in it: lima#3221."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator

from pytest_gracekill import Child

CAUGHT = {"escalation": "STRANGER"}
NAMES = ("{line}", "our own process group")
TRIAL = {"flush_time": 0.1}


def manage(child: Child) -> Iterator[Callable[[], None]]:
    process = subprocess.Popen(child.argv)  # start_new_session was forgotten
    child.wait_ready()

    def stop() -> None:
        os.killpg(os.getpgid(process.pid), signal.SIGTERM)  # FLAW group-signal: everybody is in it
        process.wait(5)

    yield stop
    process.kill()
    process.wait()
