"""'quit' is accepted, the flush makes no progress, and nobody limits the wait: LXD#11725."""

import socket
import subprocess
from collections.abc import Callable, Iterator

from pytest_gracekill import Child

CAUGHT = {"promptness": "HUNG"}
NAMES = "{line}"
TRIAL = {"flush_profile": "never", "qmp": True, "budget": 0.7}


def manage(child: Child) -> Iterator[Callable[[], None]]:
    process = subprocess.Popen(child.argv)
    child.wait_ready()
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.connect(str(child.qmp))

        def stop() -> None:
            monitor.sendall(b'{"execute": "qmp_capabilities"} {"execute": "quit"}')
            process.wait()  # FLAW flush-blocked: the disk behind it is gone

        yield stop
    process.wait()
