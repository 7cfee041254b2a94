"""A command whose warden is killed is no verdict on the routine, and leaves nothing running."""

from __future__ import annotations

import os
import select
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill import External, StartError

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gracekill.fixtures import Judge

if sys.platform != "linux":
    pytest.skip("wardens need Linux", allow_module_level=True)

#: What kills the warden of a shell whose parent it is, alone or with the process behind it.
KILLS = {
    "one": "kill -9 $warden",
    "both": "kill -9 $(ps -o ppid= -p $warden) $warden",
}
#: A command that is fast may kill its warden before that has reported the begin.
LOST = r"^the warden of .* was killed by another process|its warden ended before it had begun$"


def has_ended(path: Path) -> bool:
    """Say whether the process whose pid stands there has ended."""
    try:
        pidfd = os.pidfd_open(int(path.read_text()))
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], 0)[0])
    finally:
        os.close(pidfd)


@pytest.mark.parametrize("which", list(KILLS))
def test_a_stop_whose_warden_is_killed_is_not_judged(
    gracekill: Judge, tmp_path: Path, which: str
) -> None:
    script = f"echo $$ >{tmp_path}/pid; warden=$PPID; {KILLS[which]}; sleep 600 # {{pid}}"
    with pytest.raises(StartError, match=LOST):
        gracekill(External(stop=["sh", "-c", script]), flush_time=0.2)
    assert has_ended(tmp_path / "pid")


@pytest.mark.parametrize("which", list(KILLS))
def test_a_manager_whose_warden_is_killed_is_not_judged(
    gracekill: Judge, tmp_path: Path, which: str
) -> None:
    wait = "while [ -e /proc/{pid} ]; do sleep 0.01; done"
    stop = f"warden=$(cat {tmp_path}/warden); {KILLS[which]}; kill {{pid}}; {wait}"
    start = f"echo $PPID >{tmp_path}/warden; {{argv}} & sleep 600"
    manager = External(start=["sh", "-c", start], stop=["sh", "-c", stop])
    with pytest.raises(StartError, match=LOST):
        gracekill(manager, flush_time=0.3)


@pytest.mark.parametrize("left", ["blocked", "ignored"])
def test_a_good_command_is_good_whatever_pytest_does_with_sigchld(
    gracekill: Judge, left: str
) -> None:
    old = signal.getsignal(signal.SIGCHLD)
    try:
        if left == "blocked":
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        else:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        script = "kill {pid}; while [ -e /proc/{pid} ]; do sleep 0.01 & wait; done"
        gracekill(External(stop=["sh", "-c", script]), flush_time=0.2).check()
    finally:
        signal.signal(signal.SIGCHLD, old)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
