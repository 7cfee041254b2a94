"""The request is handed on to another process, and success is reported before it is sent."""

from pytest_gracekill import External

CAUGHT = {"outcome": "EARLY"}
NAMES = "the VM still ran, and exited at"
TRIAL = {"flush_time": 0.3}

STOP = """\
(sleep 0.15; kill {pid}) >/dev/null 2>&1 &  # FLAW request-after-return: it is not even sent yet
"""

stop = External(stop=["sh", "-c", STOP])
