"""The VM is dead, and its disk is still locked by a helper: podman 909ab59419."""

import subprocess

CAUGHT = {"leftovers": ("ORPHANS", "LOCKED")}
NAMES = ("helper", "the disk is locked")
TRIAL = {"flush_time": 0.1, "helpers": 1, "helper": {"ignores_term", "holds_lock"}}


def destroy(popen: "subprocess.Popen[bytes]") -> None:
    popen.kill()
    popen.wait(10)  # FLAW resource-outlives-exit: the next start fails to get the lock
