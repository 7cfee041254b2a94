"""`-daemonize`, as in QEMU's `os_daemonize()`: two forks, and a parent that waits for readiness.

The process that was started returns 0 when the VM is ready, and 1 when it will not be. The VM is
the grandchild, a process of nobody: who started it cannot wait for it.
"""

import os

from .lifeline import Lifeline

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

SIGTSTP, SIGTTIN, SIGTTOU = 20, 21, 22
READY = b"\0"
UMASK = 0o027


def fork_away(lifeline: Lifeline) -> int:
    """Return in the process that is to be the VM, with what `settle_in` needs there."""
    told, telling = os.pipe()
    middle = os.fork()
    if middle:
        os.close(telling)
        os.waitpid(middle, 0)
        os._exit(0 if os.read(told, 1) == READY else 1)
    os.close(told)
    os.setsid()
    lifeline.hold()
    if os.fork():
        os._exit(0)
    lifeline.hold()
    os.umask(UMASK)
    for signal in (SIGTSTP, SIGTTIN, SIGTTOU):
        _signal.signal(signal, _signal.SIG_IGN)
    return telling


def settle_in(telling: int) -> None:
    """Let go of what was inherited, and of the process that waits."""
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)
    try:  # noqa: SIM105  # contextlib is start-up time
        os.write(telling, READY)
    except OSError:
        pass  # somebody has ended the process that waits: the VM is none the worse
    os.close(telling)
