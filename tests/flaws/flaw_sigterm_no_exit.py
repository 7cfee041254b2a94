"""SHUTDOWN has come, and under -no-shutdown QEMU stays, halted: libvirt f84aedad09."""

import json
import socket
import subprocess
from collections.abc import Callable, Iterator

from pytest_gracekill import Child

CAUGHT = {"outcome": "LEAKED"}
NAMES = "the VM lives on"
TRIAL = {"flush_time": 0.1, "qmp": True}


def manage(child: Child) -> Iterator[Callable[[], None]]:
    process = subprocess.Popen([*child.argv, "-no-shutdown"])
    child.wait_ready()
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.connect(str(child.qmp))
        with monitor.makefile("r") as lines:

            def shut_down() -> None:
                monitor.sendall(b'{"execute": "qmp_capabilities"} {"execute": "system_powerdown"}')
                while json.loads(lines.readline()).get("event") != "SHUTDOWN":
                    pass
                # FLAW sigterm-no-exit: the guest is down, its process waits for a SIGTERM

            yield shut_down
    process.kill()
    process.wait()
