"""SIGCHLD is ignored, so that no zombie is left, and no status either: osquery#3487."""

import os
import select
import signal
import subprocess
import time

CAUGHT = {"outcome": "RAISED"}
NAMES = "ChildProcessError"
TRIAL = {"flush_time": 0.2}


def stop(popen: "subprocess.Popen[bytes]") -> int:
    pidfd = os.pidfd_open(popen.pid)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # FLAW sigchld-ignored: and no status
    try:
        popen.terminate()
        select.select([pidfd], [], [], 10)
        time.sleep(0.1)  # its network is taken down
        return os.waitstatus_to_exitcode(os.waitpid(popen.pid, 0)[1])
    finally:
        signal.signal(signal.SIGCHLD, before)
        os.close(pidfd)
