"""The harness' own QMP monitor of a real QEMU, over a socket pair.

QEMU 7.2 may hang, or greet twice, when a client comes to a listening socket while it starts; a
connection that it is born with has no such race. Until `watch`, who asks reads the answers; from
then on a daemon thread ``gracekill:monitor-N`` hears what QEMU tells by itself, until it ends.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
from typing import TYPE_CHECKING

from pytest_gracekill import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Message = dict[str, object]

_numbers = itertools.count(1)

#: Seconds for a thread whose connection is closed.
_ENDS_WITHIN = 5.0


class MonitorError(OSError):
    """QEMU has said something else than was expected, or nothing."""


class Monitor:
    """Our end of the connection. ``on_event`` is called with each event, in whatever thread."""

    def __init__(self, sock: socket.socket, on_event: Callable[[Message], object]) -> None:
        self._sock = sock
        self._on_event = on_event
        self._text = b""
        self._thread: threading.Thread | None = None

    def greet(self, deadline: float) -> Message:
        """Wait for the greeting, until a CLOCK_MONOTONIC second, and enter command mode."""
        greeting = self._next(deadline)
        if "QMP" not in greeting:
            raise MonitorError(f"QMP begins with {greeting}")
        self.ask([{"execute": "qmp_capabilities"}], deadline)
        return greeting

    def ask(self, commands: Iterable[Message], deadline: float) -> list[object]:
        """Have commands carried out one after the other; their return values.

        :raises MonitorError: QEMU refuses one, hangs up, or is late.
        """
        answers: list[object] = []
        for command in commands:
            self._sock.sendall(json.dumps(command).encode() + b"\n")
            said = self._next(deadline)
            while "event" in said:
                self._on_event(said)
                said = self._next(deadline)
            if "return" not in said:
                raise MonitorError(f"{command}: {said}")
            answers.append(said["return"])
        return answers

    def watch(self) -> None:
        """Hear events from now on, until QEMU ends."""
        self._sock.settimeout(None)
        self._thread = threading.Thread(
            target=self._hear, name=f"gracekill:monitor-{next(_numbers)}", daemon=True
        )
        self._thread.start()

    def join(self, timeout: float) -> None:
        """Wait until everything has been heard that a QEMU which has ended had said."""
        if self._thread is not None:
            self._thread.join(timeout)

    def close(self) -> None:
        """Hang up, and end the thread. Idempotent."""
        with contextlib.suppress(OSError):  # QEMU has hung up, or it is closed
            self._sock.shutdown(socket.SHUT_RDWR)
        self.join(_ENDS_WITHIN)
        self._sock.close()

    def _hear(self) -> None:
        while True:
            try:
                said = self._next(None)
            except OSError:
                return
            if "event" in said:
                self._on_event(said)

    def _next(self, deadline: float | None) -> Message:
        while b"\n" not in self._text:
            if deadline is not None:
                self._sock.settimeout(max(0.01, deadline - clock.monotonic()))
            try:
                part = self._sock.recv(65536)
            except TimeoutError:
                raise MonitorError("QMP: no answer in time") from None
            if not part:
                raise MonitorError("QMP: end of file")
            self._text += part
        line, _, self._text = self._text.partition(b"\n")
        message: Message = json.loads(line)
        return message
