"""State Z is taken for dead while other threads of the VM still write: OpenRC#252, mended so."""

import psutil

CAUGHT = {"outcome": "EARLY"}
NAMES = "the VM still ran, and exited at"
TRIAL = {"flush_time": 0.6, "topology": "leaderless"}


def stop(process: psutil.Process) -> bool:
    process.terminate()
    for _ in range(200):
        if process.status() == psutil.STATUS_ZOMBIE:  # FLAW zombie-leader-dead: only its leader is
            return True
        if psutil.wait_procs([process], timeout=0.05)[0]:
            return True
    return False
