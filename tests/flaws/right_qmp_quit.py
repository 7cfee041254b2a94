"""QMP's quit first; SIGTERM where that does not come through, SIGKILL where nothing does."""

import socket
import subprocess
from collections.abc import Callable, Iterator

from pytest_gracekill import Child

TRIAL = {"flush_time": 0.3, "linger": 0.1, "qmp": True, "force": True}


def _quit(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(2)
        monitor.connect(path)
        monitor.sendall(b'{"execute": "qmp_capabilities"} {"execute": "quit"}')
        while monitor.recv(4096):
            pass


def manage(child: Child) -> Iterator[Callable[[], None]]:
    process = subprocess.Popen(child.argv)
    child.wait_ready()

    def stop() -> None:
        try:
            _quit(str(child.qmp))
        except OSError:
            process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    yield stop
