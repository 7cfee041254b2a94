"""communicate() after SIGKILL reads to end of file, and a helper keeps the pipe: cpython#75628."""

import subprocess

CAUGHT = {"promptness": "HUNG"}
NAMES = "{line}"
TRIAL = {
    "flush_time": 5.0,
    "helpers": 1,
    "helper": {"holds_stdout", "ignores_term", "session"},
    "budget": 1.5,
}


def shutdown(popen: "subprocess.Popen[bytes]") -> None:
    popen.terminate()
    try:
        popen.communicate(timeout=0.2)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.communicate()  # FLAW pipe-held-open: end of file comes with the helper's end
