"""Whatever went wrong, the caller is told nothing: podman 48d26a893e."""

import contextlib
import subprocess

CAUGHT = {"outcome": "LEAKED"}
NAMES = "returned None; the VM lives on"
TRIAL = {"on_term": "ignore"}


def stop(popen: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(Exception):  # FLAW error-lost: also what had to be told
        popen.terminate()
        popen.wait(0.3)
