"""The VM has inherited a blocked SIGTERM from who started it, and never sees one: procServ#48."""

import subprocess

CAUGHT = {"promptness": "HUNG"}
NAMES = "{line}"
TRIAL = {"inherit": "blocked", "budget": 0.7}


def stop(popen: "subprocess.Popen[bytes]") -> None:
    popen.terminate()
    popen.wait()  # FLAW sigterm-blocked: only SIGKILL, or QMP, reaches it
