"""The monitor says SHUTDOWN, and that is taken for the end: libvirt before 96fc478417."""

import json
import socket
import subprocess
from collections.abc import Callable, Iterator

from pytest_gracekill import Child

CAUGHT = {"data": "DATA LOST", "escalation": "KILLED EARLY"}
NAMES = ("SIGTERM", "SIGKILL")
TRIAL = {"flush_time": 2.0, "qmp": True, "force": True}


def manage(child: Child) -> Iterator[Callable[[], None]]:
    process = subprocess.Popen(child.argv)
    child.wait_ready()
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.connect(str(child.qmp))
        with monitor.makefile("rw") as lines:
            lines.readline()
            lines.write('{"execute": "qmp_capabilities"}\n')
            lines.flush()
            lines.readline()

            def stop() -> None:
                process.terminate()
                while json.loads(lines.readline()).get("event") != "SHUTDOWN":
                    pass
                process.kill()  # FLAW kill-on-shutdown-event: the event comes before the flush
                process.wait()

            yield stop
