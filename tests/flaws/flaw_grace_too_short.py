"""SIGKILL comes before the flush has ended: libvirt before f367cd1388."""

import subprocess

CAUGHT = {"escalation": "KILLED EARLY", "data": "DATA LOST"}
NAMES = ("SIGTERM", "SIGKILL", "acknowledged, never on disk")
TRIAL = {"flush_time": 0.8, "force": True}


def destroy(popen: "subprocess.Popen[bytes]") -> None:
    popen.terminate()
    try:
        popen.wait(0.2)  # FLAW grace-too-short: the VM needs longer to flush
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()
