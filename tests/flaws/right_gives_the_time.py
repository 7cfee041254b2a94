"""A VM that takes longer than the promise is a truthful failure, reported when the time is over."""

import subprocess

TRIAL = {"flush_time": 2.0, "survive": 0.4}


def stop(popen: "subprocess.Popen[bytes]") -> bool:
    popen.terminate()
    try:
        popen.wait(0.6)
    except subprocess.TimeoutExpired:
        return False
    return True
