"""The outer layer gives up before the inner one's grace is over: seapath/ansible#208."""

from pytest_gracekill import External

CAUGHT = {"escalation": "NEVER KILLED"}
NAMES = "SIGKILL never came"
TRIAL = {"on_term": "ignore", "force": True}

STOP = """\
kill -TERM "$1"
for _ in 1 2 3 4 5 6 7 8 9 10; do
    sleep 0.2
    kill -0 "$1" || exit 0
done
kill -KILL "$1"
"""

stop = External(
    # FLAW outer-timeout-shorter: the script needs two seconds for its SIGKILL
    stop="timeout 0.5 sh {dir}/stop.sh {pid}",
    files={"stop.sh": STOP},
)
