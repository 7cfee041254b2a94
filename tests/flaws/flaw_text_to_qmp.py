"""`quit` is sent as text, as the human monitor takes it, to a socket that speaks QMP."""

import socket
import subprocess
from collections.abc import Callable, Iterator

from pytest_gracekill import Child

CAUGHT = {"escalation": "NEVER ASKED", "data": "DATA LOST"}
NAMES = ("the monitor rejected", "nothing was flushed")
TRIAL = {"flush_time": 0.3, "qmp": True}


def manage(child: Child) -> Iterator[Callable[[], None]]:
    process = subprocess.Popen(child.argv)
    child.wait_ready()

    def stop() -> None:
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(child.qmp))
            monitor.sendall(b"quit\n")  # FLAW text-to-qmp: the answer is an error
            try:
                process.wait(0.6)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    yield stop
