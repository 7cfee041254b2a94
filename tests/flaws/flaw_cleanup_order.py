"""The pid file is removed before its process was killed by it: libvirt 5cde9dee8c."""

from pytest_gracekill import External

CAUGHT = {"outcome": "LEAKED"}
NAMES = "the VM lives on"
TRIAL = {"flush_time": 0.1}

STOP = """\
cd {dir}
rm -f vm.pid  # FLAW cleanup-order: the next line reads it
kill -TERM "$(cat vm.pid 2>/dev/null)" 2>/dev/null
exit 0
"""

stop = External(
    start="{program} -daemonize -pidfile {dir}/vm.pid",
    stop="sh {dir}/stop.sh",
    files={"stop.sh": STOP},
)
