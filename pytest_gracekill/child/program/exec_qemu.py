"""The first steps of a real QEMU: a process where its topology has it, with the mark, then exec.

The descriptors that are meant for QEMU belong to it alone: whoever reaps or wraps it closes them,
so that its end is an end of file for those at their other ends.
"""

import os

from .dispositions import settle
from .lifeline import Lifeline, tell
from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from .configuration import Configuration


def main(
    configuration: "Configuration", command: "list[str]", descriptors: "Sequence[int]"
) -> "NoReturn":
    """Become QEMU, or the process that its topology puts in front of it."""
    settle("none")
    lifeline = Lifeline(configuration.mark)
    if configuration.topology != "child":
        from .family import enter  # noqa: PLC0415  # brings what a child of pytest's needs not

        def close() -> None:
            for fd in descriptors:
                os.close(fd)

        os.register_at_fork(after_in_parent=close)
        enter(configuration, lifeline)  # returns in the process that is to be the VM
        settle("none")
    pid = os.getpid()
    tell(configuration.ready, f"pid {pid}")
    record = Record(configuration.journal)
    record.write(
        "start",
        pid=pid,
        topology=configuration.topology,
        blocks=configuration.blocks,
        block_size=configuration.block_size,
        seed=configuration.seed,
    )
    record.write("role", pid=pid, role="vm")
    lifeline.keep()
    os.execv(command[0], command)  # noqa: S606  # to become that program is what this is for
