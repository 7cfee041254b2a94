"""The first steps of a fake's process: signal dispositions, the mark, and then its place.

Before them comes QEMU's command line, if there is any: a question is answered, and that is all.

`inherit` comes first of all: what a parent leaves to its child is there before any of its code.
"""

import os

from .dispositions import settle
from .lifeline import Lifeline
from .machine import Machine
from .stderr import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from .command_line import Options
    from .configuration import Configuration


def main(configuration: "Configuration", arguments: "Sequence[str]" = ()) -> "NoReturn":
    """Become the fake, or the process that its topology puts in front of it.

    :param arguments: options of QEMU's.
    """
    try:
        _live(configuration, arguments)
    except Exception as error:  # noqa: BLE001  # the last frame of this process, and of those it forks
        from .fault import end_with  # noqa: PLC0415  # needed once, here

        end_with(error, configuration)


def _live(configuration: "Configuration", arguments: "Sequence[str]") -> "NoReturn":
    options = _understand(arguments) if arguments else None
    alone = configuration.topology in ("child", "leaderless")
    settle(configuration.inherit if alone else "none")
    lifeline = Lifeline(configuration.mark)
    if not alone:
        from .family import enter  # noqa: PLC0415  # not for the topology that is timed

        enter(configuration, lifeline)  # returns in the process that is to be the VM
        settle(configuration.inherit)
    detached = -1
    if options is not None and options.daemonize:
        from .detach import fork_away  # noqa: PLC0415  # for those who ask for it

        detached = fork_away(lifeline)
    machine = Machine(configuration, lifeline, options, detached)
    machine.power_on()
    if configuration.topology == "leaderless":
        from .leaderless import go_on_without_leader  # noqa: PLC0415  # needs ctypes

        go_on_without_leader(machine.run, configuration)
    machine.run()
    os._exit(os.EX_SOFTWARE)  # the machine never returns


def _understand(arguments: "Sequence[str]") -> "Options":
    from . import command_line, probe  # noqa: PLC0415  # not for a start that is timed
    from .chardev import Unusable  # noqa: PLC0415  # as above

    try:
        text = probe.answer(arguments)
        if text is not None:
            probe.show(text)
            os._exit(0)
        return command_line.understand(arguments)
    except Unusable as refused:
        say(str(refused))
        os._exit(1)
