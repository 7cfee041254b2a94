"""A command that only hands the request on, as `svc -d` does, and whose contract says so."""

from pytest_gracekill import External

TRIAL = {"flush_time": 0.3, "returns": "requested"}

stop = External(stop=["sh", "-c", "(sleep 0.15; kill {pid}) >/dev/null 2>&1 &"])
