"""One deadline for all VMs, begun with the first one's stop: proxmox 0a1641ae."""

import subprocess
import time
from collections.abc import Callable, Iterator

from pytest_gracekill import Child

CAUGHT = {"escalation": "KILLED EARLY", "data": "DATA LOST"}
NAMES = "SIGKILL"
TRIAL = {"flush_time": 2.0, "force": True}


def manage(child: Child) -> Iterator[Callable[[], None]]:
    vms = [subprocess.Popen(["sleep", "30"]), subprocess.Popen(child.argv)]
    child.wait_ready()

    def stop_all() -> None:
        deadline = time.monotonic() + 0.9
        for vm in vms:
            vm.terminate()
            time.sleep(0.5)  # its hooks: disks, network
        for vm in vms:
            try:
                vm.wait(deadline - time.monotonic())  # FLAW shared-timer: 10 s, but not for each
            except subprocess.TimeoutExpired:
                vm.kill()
                vm.wait()

    yield stop_all
    for vm in vms:
        vm.kill()
        vm.wait()
