"""SIGTERM, then SIGCONT to a VM that is stopped: it resumes with the request pending."""

import signal
import subprocess
import time

TRIAL = {"flush_time": 0.2, "force": True}


def stop(popen: "subprocess.Popen[bytes]") -> None:
    popen.send_signal(signal.SIGSTOP)
    time.sleep(0.2)  # the snapshot
    popen.terminate()
    popen.send_signal(signal.SIGCONT)
    try:
        popen.wait(10)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()
