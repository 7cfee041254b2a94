"""A shell script with a deadline, a last look, and an exit status that tells the truth."""

from pytest_gracekill import External

TRIAL = {"flush_time": 0.3, "force": True}

STOP = """\
pid=$1
gone() {
    end=$(( $(date +%s) + $1 ))
    while kill -0 "$pid" 2>/dev/null; do
        [ "$(date +%s)" -lt "$end" ] || return 1
        sleep 0.05
    done
}
kill -TERM "$pid" 2>/dev/null || exit 0
gone 10 && exit 0
kill -KILL "$pid" 2>/dev/null
gone 5
"""

stop = External(stop="sh {dir}/stop.sh {pid}", files={"stop.sh": STOP})
