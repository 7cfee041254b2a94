"""The VM is stopped behind the back of its supervisor, which starts it again: podman 1ab833fb73."""

from pytest_gracekill import External

CAUGHT = {"outcome": "RESTARTED"}
NAMES = "the VM was started again"
TRIAL = {"flush_time": 0.4}

SUPERVISOR = """\
#!/bin/sh
trap 'touch {dir}/stop; kill $vm; wait $vm; exit 0' TERM
echo $$ >{dir}/supervisor.pid
while [ ! -e {dir}/stop ]; do
    {argv} &
    vm=$!
    wait $vm
    sleep 0.2
done
"""
STOP = """\
kill {pid}  # FLAW supervisor-not-told: to its supervisor this is a crash
while [ -e /proc/{pid} ]; do sleep 0.05; done
"""

stop = External(
    start="{dir}/supervisor",
    stop=["sh", "-c", STOP],
    files={"supervisor": SUPERVISOR},
)
