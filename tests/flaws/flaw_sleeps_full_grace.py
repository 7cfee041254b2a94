"""A fixed sleep instead of a wait: vdsm 303624b48."""

import subprocess
import time

CAUGHT = {"promptness": "SLOW"}
NAMES = "after the exit"
TRIAL = {"flush_time": 0.1}


def destroy(popen: "subprocess.Popen[bytes]") -> None:
    popen.terminate()
    time.sleep(1.5)  # FLAW sleeps-full-grace: the VM is gone since long
    popen.kill()
    popen.wait()
