"""The first steps of a fake's process: signal dispositions, the mark, and then its place.

`inherit` comes first of all: what a parent leaves to its child is there before any of its code.
"""

import os

from .lifeline import Lifeline
from .machine import Machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn

    from .configuration import Configuration
else:
    import _signal

SIGTERM = 15
LEFT_ALONE = (9, 13, 19, 25)
"""SIGKILL and SIGSTOP cannot be set; Python ignores SIGPIPE and SIGXFSZ, and QEMU SIGPIPE."""


def settle(inherit: str) -> None:
    """Set dispositions and mask as a parent would have left them.

    Everything is set, since the real parent may run under nohup, as a job of a shell's
    background, or block what it likes.
    """
    for signal in range(1, 32):
        if signal not in LEFT_ALONE:
            _signal.signal(signal, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, (SIGTERM,) if inherit == "blocked" else ())
    if inherit == "ignored":
        _signal.signal(SIGTERM, _signal.SIG_IGN)


def main(configuration: "Configuration") -> "NoReturn":
    """Become the fake, or the process that its topology puts in front of it."""
    alone = configuration.topology in ("child", "leaderless")
    settle(configuration.inherit if alone else "none")
    lifeline = Lifeline(configuration.mark)
    if not alone:
        from .family import enter  # noqa: PLC0415  # not for the topology that is timed

        enter(configuration, lifeline)  # returns in the process that is to be the VM
        settle(configuration.inherit)
    machine = Machine(configuration, lifeline)
    machine.power_on()
    if configuration.topology == "leaderless":
        from .leaderless import go_on_without_leader  # noqa: PLC0415  # needs ctypes

        go_on_without_leader(machine.run)
    machine.run()
    os._exit(os.EX_SOFTWARE)  # the machine never returns
