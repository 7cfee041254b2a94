"""The VM has ended, and a file that its exit removes is then missing: the stop is an exception."""

import subprocess
from collections.abc import Callable, Iterator

from pytest_gracekill import Child

CAUGHT = {"outcome": "RAISED"}
NAMES = "the VM was dead since"
TRIAL = {"flush_time": 0.2}


def manage(child: Child) -> Iterator[Callable[[], None]]:
    process = subprocess.Popen(child.argv)
    child.wait_ready()

    def stop() -> None:
        process.terminate()
        process.wait(10)
        child.pid_file.unlink()  # FLAW failed-after-end: QEMU removes its pid file itself

    yield stop
