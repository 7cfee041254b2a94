"""One VM after the other, and the host's limit leaves nothing for the last: truenas#18989."""

import subprocess
import time
from collections.abc import Callable, Iterator

from pytest_gracekill import Child

CAUGHT = {"escalation": "KILLED EARLY", "data": "DATA LOST"}
NAMES = "SIGKILL"
TRIAL = {"flush_time": 2.0, "force": True}
# it ignores SIGTERM, and says when it does
STUBBORN = ["sh", "-c", "trap '' TERM; echo; exec sleep 30"]


def manage(child: Child) -> Iterator[Callable[[], None]]:
    stubborn = subprocess.Popen(STUBBORN, stdout=subprocess.PIPE)
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    vms = [stubborn, subprocess.Popen(child.argv)]
    child.wait_ready()

    def shut_down_host() -> None:
        limit = time.monotonic() + 0.8
        for vm in vms:
            vm.terminate()
            try:
                # FLAW sequential-sum: the grace of all is used up by the first
                vm.wait(max(limit - time.monotonic(), 0.0))
            except subprocess.TimeoutExpired:
                vm.kill()
                vm.wait()

    yield shut_down_host
    stubborn.stdout.close()
