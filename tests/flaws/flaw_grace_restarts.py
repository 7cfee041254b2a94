"""Each attempt of a retry has the whole grace, and a SIGTERM, of its own: kubernetes#117373."""

import subprocess

CAUGHT = {"escalation": "REPEATED", "data": "DATA LOST"}
NAMES = "2 stop signals"
TRIAL = {"flush_time": 1.0, "on_second_term": "restart", "force": True}


def stop_pod(popen: "subprocess.Popen[bytes]") -> None:
    for _attempt in range(2):
        popen.terminate()  # FLAW grace-restarts: what was half flushed begins again
        try:
            popen.wait(0.6)
        except subprocess.TimeoutExpired:
            continue
        return
    popen.kill()
    popen.wait()
