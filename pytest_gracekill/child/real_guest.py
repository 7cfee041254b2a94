"""What stands for the guest of a real QEMU: it writes, and takes note of what is acknowledged.

There is no guest code. QEMU's monitor has a command that writes to a disk as a device would, and
tells on QEMU's standard output that it is done; a storage daemon serves its disk to an NBD client,
whose connection has to stay open: to close it would flush. Acknowledged is done, but not flushed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import nbd_wire as wire
from .real_image import CLUSTER, offset, pattern

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable
    from pathlib import Path

    from .real_monitor import Message, Monitor

NODE = "disk"
"""The name of QEMU's block node that is the guest's disk."""

_WROTE = re.compile(rf"^wrote {CLUSTER}/{CLUSTER} bytes at offset (\d+)$", re.MULTILINE)


class ByMonitor:
    """Writes by ``qemu-io`` commands; the line of each acknowledgement is in ``stdout``.

    ``disk``: as the command takes it, a block node, or ``-d`` and a device.
    """

    def __init__(self, monitor: Monitor, stdout: Path, disk: str = NODE) -> None:
        self._monitor = monitor
        self._stdout = stdout
        self._disk = disk

    def write(self, blocks: Iterable[int], deadline: float) -> list[int]:
        """Write blocks; returns those that were acknowledged."""
        wanted = {offset(block): block for block in blocks}
        self._order(
            [f"write -P {pattern(block)} {at} {CLUSTER}" for at, block in wanted.items()], deadline
        )
        # QEMU has it line by line, whatever it writes to
        told = map(int, _WROTE.findall(self._stdout.read_text(encoding="ascii", errors="replace")))
        return [wanted[at] for at in told if at in wanted]

    def flush(self, deadline: float) -> None:
        """Flush as a guest does that wants to be sure."""
        self._order(["flush"], deadline)

    def close(self) -> None:
        """Nothing is held open."""

    def _order(self, orders: Iterable[str], deadline: float) -> None:
        commands: list[Message] = [
            {
                "execute": "human-monitor-command",
                "arguments": {"command-line": f'qemu-io {self._disk} "{order}"'},
            }
            for order in orders
        ]
        # what goes wrong there is told by a text, and is no error of QMP's
        if wrong := [said for said in self._monitor.ask(commands, deadline) if said]:
            raise OSError(f"QEMU's monitor says: {wrong[0]}")


class ByExport:
    """Writes by NBD, as a client of a storage daemon; ``sock`` is connected, with a timeout."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        wire.ask_export(sock, NODE)

    def write(self, blocks: Iterable[int], _deadline: float) -> list[int]:
        """Write blocks; returns those that were acknowledged."""
        return [
            block
            for block in blocks
            if not wire.ask(
                self._sock, wire.WRITE, offset(block), bytes([pattern(block)]) * CLUSTER
            )
        ]

    def flush(self, _deadline: float) -> None:
        """Flush as a guest does that wants to be sure."""
        if error := wire.ask(self._sock, wire.FLUSH):
            raise OSError(error, "the export cannot be flushed")

    def close(self) -> None:
        """Hang up; the storage daemon has to be dead, or what it has is flushed by that."""
        self._sock.close()
