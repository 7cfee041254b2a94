"""The wrapper was killed, the VM behind it never got a signal: kata#13009."""

import subprocess

CAUGHT = {"outcome": "LEAKED"}
NAMES = "the VM lives on"
TRIAL = {"topology": "wrapped", "flush_time": 0.1}


def destroy(popen: "subprocess.Popen[bytes]") -> None:
    popen.terminate()
    popen.wait(10)  # FLAW wrong-pid: this was the pid of the wrapper
