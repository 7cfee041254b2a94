"""The idiom of the standard library, with enough grace."""

import subprocess

TRIAL = {"flush_time": 0.3, "force": True, "helpers": 1}


def destroy(popen: "subprocess.Popen[bytes]") -> None:
    popen.terminate()
    try:
        popen.wait(10)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait(5)
