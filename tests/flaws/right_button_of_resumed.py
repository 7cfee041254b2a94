"""The guest was paused for a snapshot: it is resumed, and then asked by its power button."""

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import TextIO

from pytest_gracekill import Child

TRIAL = {"flush_time": 0.3, "qmp": True}


def _execute(monitor: TextIO, command: str) -> None:
    monitor.write(json.dumps({"execute": command}) + "\n")
    monitor.flush()
    while "return" not in json.loads(monitor.readline()):
        pass


def manage(child: Child) -> Iterator[Callable[[], None]]:
    process = subprocess.Popen(child.argv)
    child.wait_ready()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(child.qmp))
    monitor = connection.makefile("rw")
    monitor.readline()
    _execute(monitor, "qmp_capabilities")
    _execute(monitor, "stop")

    def stop() -> None:
        _execute(monitor, "cont")
        _execute(monitor, "system_powerdown")
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    yield stop
    monitor.close()
    connection.close()
