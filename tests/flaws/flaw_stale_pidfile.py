"""The pid file is of another boot, and its number is the manager's own now: wazuh#38733."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator

from pytest_gracekill import Child

CAUGHT = {"escalation": "STRANGER"}
NAMES = ("{line}", "SIGTERM to our own process")
TRIAL = {"flush_time": 0.1}


def manage(child: Child) -> Iterator[Callable[[], None]]:
    pid_file = child.dir / "vm.pid"
    pid_file.write_text(f"{os.getpid()}\n")
    process = subprocess.Popen(child.argv)
    child.wait_ready()

    def stop() -> None:
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)  # FLAW stale-pidfile: nobody looked whose pid this is
        process.wait(5)

    yield stop
    process.kill()
    process.wait()
    pid_file.unlink()
