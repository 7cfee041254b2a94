"""The pid file is there, so SIGTERM is sent; QEMU has no handlers yet: xrdp#3481."""

import subprocess
import time
from collections.abc import Callable, Iterator

from pytest_gracekill import Child

CAUGHT = {"data": "DATA LOST"}
NAMES = "never on disk; nothing was flushed"
TRIAL = {"flush_time": 0.2, "ready_after": 10.0}


def manage(child: Child) -> Iterator[Callable[[], None]]:
    process = subprocess.Popen(child.argv)
    while not child.pid_file.exists():
        time.sleep(0.005)

    def stop() -> None:
        process.terminate()  # FLAW early-sigterm: a pid file is no handshake
        process.wait()

    yield stop
