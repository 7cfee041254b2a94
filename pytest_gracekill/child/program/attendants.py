"""Helper processes of the fake, as virtiofsd, swtpm or a PR helper are of QEMU.

They stay when the VM is SIGKILLed. A clean exit of the VM ends them, unless they ignore SIGTERM.
"""

import os
import time

from .clock import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Sequence

    from .lifeline import Lifeline
    from .record import Record
else:
    import _signal

SIGHUP, SIGINT, SIGTERM, SIGCHLD = 1, 2, 15, 17
PATIENCE = 1.0  # seconds that the VM waits for helpers that it asked to end


def attend(
    count: int,
    traits: "Sequence[str]",
    lifeline: "Lifeline",
    record: "Record",
    disk: int,
    *,
    passed: "Sequence[int]",
) -> list[int]:
    """Start the helpers; return their pids when each of them is as its traits say.

    :param passed: descriptors that were meant for the VM alone.
    """
    set_up, setting_up = os.pipe()
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            os.close(set_up)
            lifeline.hold()
            for fd in passed:
                os.closerange(fd, fd + 1)  # whether it is one or not
            _take_on(traits, disk)
            record.write("role", pid=os.getpid(), role="helper")
            os.close(setting_up)
            while True:
                time.sleep(3600)
        pids.append(pid)
    os.close(setting_up)
    os.read(set_up, 1)  # end of file when the last helper is set up (or dead)
    os.close(set_up)
    return pids


def _take_on(traits: "Sequence[str]", disk: int) -> None:
    for signal in (SIGHUP, SIGINT, SIGTERM):
        _signal.signal(signal, _signal.SIG_DFL)
    if "ignores_term" in traits:
        _signal.signal(SIGTERM, _signal.SIG_IGN)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    if "session" in traits:
        os.setsid()
    if "holds_stdout" not in traits:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.close(null)
    if "holds_lock" not in traits:
        os.close(disk)


def dismiss(pids: list[int], traits: "Sequence[str]") -> None:
    """End the helpers as a VM does that exits cleanly; those that ignore SIGTERM stay."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, (SIGCHLD,))
    for pid in pids:
        os.kill(pid, SIGTERM)  # our own children, not reaped yet: no other process has this pid
    waiting = set() if "ignores_term" in traits else set(pids)
    deadline = monotonic() + PATIENCE
    while waiting and monotonic() < deadline:
        for pid in tuple(waiting):
            if os.waitpid(pid, os.WNOHANG)[0]:
                waiting.discard(pid)
        if waiting:
            _signal.sigtimedwait((SIGCHLD,), max(0.0, deadline - monotonic()))
