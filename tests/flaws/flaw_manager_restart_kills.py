"""The manager is restarted, and everything else of its unit gets SIGKILL: vdsm a0b9f2c65."""

import subprocess
from collections.abc import Callable, Iterator

from pytest_gracekill import Child

CAUGHT = {"escalation": "NEVER ASKED", "data": "DATA LOST"}
NAMES = ("SIGKILL", "nothing was flushed")
TRIAL = {"flush_time": 0.5, "force": True}


def manage(child: Child) -> Iterator[Callable[[], None]]:
    daemon = subprocess.Popen(["sleep", "30"])
    unit = [subprocess.Popen(child.argv)]
    child.wait_ready()

    def restart_daemon() -> None:
        daemon.terminate()
        daemon.wait()
        for process in unit:
            process.kill()  # FLAW manager-restart-kills: KillMode=mixed, and a VM is no worker
            process.wait()

    yield restart_daemon
    daemon.kill()
    daemon.wait()
