"""The VM is dead, its helper lives on: libvirt 7a232286b9."""

import subprocess

CAUGHT = {"leftovers": "ORPHANS"}
NAMES = "helper"
TRIAL = {"flush_time": 0.1, "helpers": 1, "helper": {"ignores_term"}}


def destroy(popen: "subprocess.Popen[bytes]") -> None:
    popen.terminate()
    popen.wait(10)  # FLAW leftover-children: nobody looked after the helper
