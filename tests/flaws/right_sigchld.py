"""SIGCHLD wakes it, and whether the VM has ended is looked at, whatever came."""

import signal
import subprocess
import time

TRIAL = {"flush_time": 0.3, "force": True}


def _ended(popen: "subprocess.Popen[bytes]", seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while popen.poll() is None:
        left = deadline - time.monotonic()
        if left <= 0:
            return popen.poll() is not None
        # another thread may get the signal: no wait is longer than this
        signal.sigtimedwait({signal.SIGCHLD}, min(left, 0.05))
    return True


def stop(popen: "subprocess.Popen[bytes]") -> bool:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        popen.terminate()
        if _ended(popen, 10):
            return True
        popen.kill()
        return _ended(popen, 5)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
