"""A stranger: another process that gets the VM's pid once that was reaped.

`/proc/sys/kernel/ns_last_pid` says which pid the kernel gave away last; the next one is the VM's
then, unless somebody else is faster. Every signal that the stranger gets is journalled: none of
them was meant for it.
"""

import os

from .lifeline import Lifeline
from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn
else:
    import _signal

LAST_PID = "/proc/sys/kernel/ns_last_pid"
ATTEMPTS = 200
LETS_GO = 10  # SIGUSR1, by which the keeper ends the wait of a reaper
SIGCHLD = 17
LONGEST = 3600.0


def take_over(pid: int, lifeline: Lifeline, record: Record) -> "NoReturn":
    """Have a stranger under this pid, and say what signals it gets, until the keeper is done."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, (LETS_GO, SIGCHLD))
    for _ in range(ATTEMPTS):
        try:
            with open(LAST_PID, "w", encoding="ascii") as last:  # noqa: PTH123  # start-up time
                last.write(str(pid - 1))
        except OSError as error:
            record.write("not_reused", pid=pid, errno=error.errno or 0)
            os._exit(0)
        new = os.fork()
        if new == 0:
            if os.getpid() == pid:
                _live(lifeline, record)
            os._exit(0)
        if new == pid:
            _watch(pid, record)
        os.waitpid(new, 0)
    record.write("not_reused", pid=pid, errno=0)
    os._exit(0)


def _live(lifeline: Lifeline, record: Record) -> "NoReturn":
    os.setsid()
    lifeline.hold()
    every = set(_signal.valid_signals()) - {9, 19}
    _signal.pthread_sigmask(_signal.SIG_SETMASK, every)
    record.write("reused", pid=os.getpid())
    while True:
        taken = _signal.sigwaitinfo(every)
        record.write("stranger_hit", signal=taken.si_signo, pid=taken.si_pid)


def _watch(pid: int, record: Record) -> "NoReturn":
    taken = _signal.sigtimedwait((LETS_GO, SIGCHLD), LONGEST)
    if taken is not None and taken.si_signo == SIGCHLD:
        status = os.waitpid(pid, os.WUNTRACED)[1]
        by = os.WSTOPSIG(status) if os.WIFSTOPPED(status) else os.WTERMSIG(status)
        record.write("stranger_hit", signal=by, pid=0)
    os._exit(0)
