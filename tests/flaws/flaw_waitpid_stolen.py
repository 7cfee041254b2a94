"""The manager's SIGCHLD handler has reaped the VM, its stop looks for the status: psutil#2710."""

import os
import select
import signal
import subprocess
import time

CAUGHT = {"outcome": "RAISED"}
NAMES = "ChildProcessError"
TRIAL = {"flush_time": 0.2}


def stop(popen: "subprocess.Popen[bytes]") -> int:
    def reap(_signum: int, _frame: object) -> None:
        os.waitpid(popen.pid, os.WNOHANG)

    pidfd = os.pidfd_open(popen.pid)
    before = signal.signal(signal.SIGCHLD, reap)
    try:
        popen.terminate()
        select.select([pidfd], [], [], 10)
        time.sleep(0.1)  # its network is taken down
        # FLAW waitpid-stolen: the handler has the status, here comes ECHILD
        return os.waitstatus_to_exitcode(os.waitpid(popen.pid, 0)[1])
    finally:
        signal.signal(signal.SIGCHLD, before)
        os.close(pidfd)
