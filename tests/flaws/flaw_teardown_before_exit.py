"""The monitor's end of file is taken for the VM's end, and its disk given away: LXD 05ec8903b7."""

import socket
import subprocess
from collections.abc import Callable, Iterator

from pytest_gracekill import Child

CAUGHT = {"outcome": "EARLY"}
NAMES = "the VM still ran, and exited at"
TRIAL = {"flush_time": 0.2, "linger": 0.5, "qmp": True}


def manage(child: Child) -> Iterator[Callable[[], None]]:
    process = subprocess.Popen(child.argv)
    child.wait_ready()
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.connect(str(child.qmp))

        def stop() -> None:
            monitor.sendall(b'{"execute": "qmp_capabilities"} {"execute": "quit"}')
            while monitor.recv(4096):
                pass
            # FLAW teardown-before-exit: the process still has the disk

        yield stop
    process.wait()
