"""SIGTERM to a VM that was stopped for a snapshot; SIGCONT never comes: daintree#9107."""

import signal
import subprocess
import time

CAUGHT = {"data": "UNHEARD"}
NAMES = ("SIGTERM was not heard", "nothing was flushed")
TRIAL = {"flush_time": 0.2}


def stop(popen: "subprocess.Popen[bytes]") -> None:
    popen.send_signal(signal.SIGSTOP)
    time.sleep(0.2)  # the snapshot
    popen.terminate()  # FLAW stopped-child: a stopped process runs no handler
    try:
        popen.wait(0.8)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()
