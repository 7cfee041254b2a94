"""A stop by SIGTERM has to show as a death by SIGTERM; QEMU handles it, flushes and exits 0."""

import signal
import subprocess

CAUGHT = {"outcome": "LIED"}
NAMES = "the VM was dead since"
TRIAL = {"flush_time": 0.2}


def stop(popen: "subprocess.Popen[bytes]") -> bool:
    popen.terminate()
    status = popen.wait(10)
    return status == -signal.SIGTERM  # FLAW clean-exit-is-failure: 0 is the best end there is
