"""The supervisor of the VM is asked: it stops the VM, and does not start it again."""

from pytest_gracekill import External

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
supervisor=$(cat {dir}/supervisor.pid)
kill $supervisor
while [ -e /proc/$supervisor ]; do sleep 0.05; done
"""

stop = External(
    start="{dir}/supervisor",
    stop=["sh", "-c", STOP],
    files={"supervisor": SUPERVISOR},
)
