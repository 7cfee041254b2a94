"""The journal of a real QEMU: written by us, from what its monitor says and its disk is asked.

It has the fake's words: ``ack``, ``signal`` or ``qmp`` (the request to stop, when QEMU told of it),
``flush_begin``, ``block`` (the table that links it is on the disk), and ``exit``, when QEMU lets go
of its disk, which is the last that it does. Times are those at which a thread of ours saw it; on a
busy machine that is some milliseconds late. ``event`` has every event of QMP besides.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

from . import nbd_wire as wire
from .program.record import Record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .nbd import Served
    from .nbd_wire import Request
    from .real_monitor import Message

_TERMINATING = re.compile(r"terminating on signal (\d+)(?: from pid (\d+))?")
_NOBODY_SAYS = 0  # a storage daemon does not tell by what it was stopped


class RealRecord:
    """Writes one journal. ``tables``: which block's table is where on the disk."""

    def __init__(self, path: Path, stderr: Path, tables: Mapping[int, int]) -> None:
        self._record = Record(str(path))
        self._stderr = stderr
        self._tables = tables
        self._lock = threading.Lock()
        self._ready = False
        self._flushing = False
        self._closed = False

    def close(self) -> None:
        """Let go of the journal; nobody may tell anything any more. Idempotent."""
        if not self._closed:
            self._closed = True
            self._record.close()

    def acknowledged(self, blocks: list[int]) -> None:
        """The guest was told that these are written; a row of numbers without a gap."""
        self._record.write("ack", first=blocks[0], last=blocks[-1], generation=1)

    def ready(self) -> None:
        """From here on the disk is written to because QEMU is asked to stop."""
        self._record.write("handlers")
        self._record.write("ready")
        self._ready = True

    def met(self, request: Request) -> None:
        """The disk was asked for something."""
        with self._lock:
            if request.command == wire.DISC:
                self._record.write("exit", code=0)
            elif self._ready and not self._flushing:
                self._flushing = True
                self._record.write("flush_begin")

    def served(self, served: Served) -> None:
        """The disk has done it, or has dropped it."""
        block = self._tables.get(served.offset)
        if served.applied and served.kind == "write" and block is not None:
            self._record.write("block", index=block, generation=1)

    def event(self, message: Message) -> None:
        """QMP has told of an event."""
        name, data = str(message["event"]), message.get("data")
        reason = str(data.get("reason", "")) if isinstance(data, dict) else ""
        # its words are QEMU's identifiers: nothing in them needs an escape
        self._record.write("event", name=name, reason=reason)
        if name == "SHUTDOWN":
            self._shutdown(reason)
        elif name == "BLOCK_EXPORT_DELETED" and self._ready:
            self._record.write("signal", signal=_NOBODY_SAYS, pid=0)

    def _shutdown(self, reason: str) -> None:
        if reason != "host-signal":
            command = "quit" if reason == "host-qmp-quit" else reason
            self._record.write("qmp", command=command)
            return
        # the line is written before the event is sent
        said = _TERMINATING.search(self._stderr.read_text(encoding="utf-8", errors="replace"))
        number, pid = (0, 0) if said is None else (int(said[1]), int(said[2] or 0))
        self._record.write("signal", signal=number, pid=pid)
