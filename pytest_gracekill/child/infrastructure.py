"""Wrapper, reaper and subreaper: processes of ours in front of the VM, and how they were lost."""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

    from .journal import Journal

_ROLES = {"wrapped": "wrapper", "daemon": "subreaper", "reaped": "reaper", "zombie": "reaper"}


def loss(popen: subprocess.Popen[bytes], pidfd: int, topology: str, journal: Journal) -> str | None:
    """Say how such a process ended before it had reaped the VM; None if it has not.

    :param pidfd: of the process; its status is left for whoever waits for it.
    """
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(0) or journal.last("reaped") is not None:
        return None
    return (
        f"the {_ROLES[topology]} of the fake (pid {popen.pid}) {_how(popen, pidfd)} before it had"
        " reaped the VM"
    )


def _how(popen: subprocess.Popen[bytes], pidfd: int) -> str:
    code = popen.returncode
    try:
        seen = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        seen = None  # somebody has waited for it
    if seen is not None:
        code = seen.si_status if seen.si_code == os.CLD_EXITED else -seen.si_status
    if code is None:
        return "ended"
    return f"ended with status {code}" if code >= 0 else f"was ended by {_name(-code)}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
