"""The VM has ended in good order, and its disk is still locked by a helper that it has left."""

import subprocess

CAUGHT = {"leftovers": ("LOCKED", "ORPHANS")}
TRIAL = {"flush_time": 0.4, "helpers": 1, "helper": {"ignores_term", "holds_lock"}}


def destroy(popen: subprocess.Popen[bytes]) -> None:
    popen.terminate()
    popen.wait(10)  # FLAW resource-outlives-exit: the next start fails to get the lock
