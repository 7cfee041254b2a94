"""What can be seen of a VM from outside, in a form in which two of them can be compared.

Times, pids, paths and versions differ by nature: each is replaced by a word when it is well formed,
and left as it is when it is not.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: What a scenario has seen, by what it is called in the table.
Seen = dict[str, object]

WITHIN = 30.0
"""Seconds for whatever takes milliseconds on a machine that is not busy."""

_NAME = "qemu-system-x86_64"
_SHARED = 100  # block/file-posix.c: RAW_LOCK_PERM_BASE; RAW_LOCK_SHARED_BASE is 200
_BITS = {0: "consistent-read", 1: "write", 2: "write-unchanged", 3: "resize"}
_F_OFD_GETLK = 36


class Client:
    """A QMP client that takes note of every line, as it came; ``sock`` is connected."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._text = b""

    @classmethod
    def of(cls, path: str | None) -> Client:
        """One that connects to a UNIX socket."""
        assert path is not None
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        return cls(sock)

    @property
    def peer(self) -> int:
        """The pid of who is at the other end."""
        ucred = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int.from_bytes(ucred[:4], sys.byteorder)

    def negotiate(self) -> list[str]:
        """Greeting and answer."""
        return [self.greeted(), *self.ask("qmp_capabilities")]

    def greeted(self) -> str:
        """The greeting, which comes first."""
        return normalised(self._line(time.monotonic() + WITHIN))

    def ask(self, command: str, **arguments: object) -> list[str]:
        """Everything that is said up to the answer."""
        order: dict[str, object] = {"execute": command}
        if arguments:
            order["arguments"] = arguments
        return self.say(json.dumps(order))

    def say(self, text: str) -> list[str]:
        """The same for any text."""
        self.send(text)
        return self.read_answer()

    def read_answer(self) -> list[str]:
        """Everything that is said up to the next answer."""
        deadline = time.monotonic() + WITHIN
        said: list[str] = []
        while not said or "event" in json.loads(said[-1]):
            said.append(normalised(self._line(deadline)))
        return said

    def send(self, text: str) -> None:
        """Say something and wait for nothing."""
        self._sock.sendall(text.encode() + b"\n")

    def until(self, event: str) -> list[str]:
        """Everything that is said up to an event."""
        deadline = time.monotonic() + WITHIN
        said = [normalised(self._line(deadline))]
        while json.loads(said[-1]).get("event") != event:
            said.append(normalised(self._line(deadline)))
        return said

    def so_far(self) -> list[str]:
        """What has been said and not been read."""
        said = []
        while b"\n" in self._text or self._readable(0.0):
            said.append(normalised(self._line(time.monotonic() + WITHIN)))
        return said

    def rest(self) -> list[str]:
        """Everything up to the end of file, which is the last."""
        deadline = time.monotonic() + WITHIN
        said = []
        while line := self._line(deadline, end=True):
            said.append(normalised(line))
        return [*said, "end of file"]

    def close(self) -> None:
        self._sock.close()

    def _readable(self, timeout: float) -> bool:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(max(0.0, timeout) * 1000))

    def _line(self, deadline: float, *, end: bool = False) -> bytes:
        while b"\n" not in self._text:
            assert self._readable(deadline - time.monotonic()), f"QMP silent: {self._text!r}"
            try:
                part = self._sock.recv(65536)
            except ConnectionResetError:
                part = b""  # what we had said was not read: the same end, for a client
            if not part:
                assert end, f"QMP ended: {self._text!r}"
                return b""
            self._text += part
        line, _, self._text = self._text.partition(b"\n")
        return line


def normalised(line: bytes) -> str:
    """A message of QMP's, in the order of its members."""
    assert line.endswith(b"\r"), f"QMP ends its lines with CR LF: {line!r}"
    message = json.loads(line)
    stamp = message.get("timestamp")
    if isinstance(stamp, dict) and abs(time.time() - stamp["seconds"]) < 2 * WITHIN:
        message["timestamp"] = sorted(stamp)
    version = message.get("QMP", {}).get("version")
    if version is not None and sorted(version) == ["package", "qemu"]:
        message["QMP"]["version"] = sorted(version["qemu"])
    return json.dumps(message)


def complaints(text: str, folder: Path) -> list[str]:
    """The lines of a standard error; those that QEMU prints of its guest's writes are none."""
    command = Path("/proc/self/cmdline").read_bytes().partition(b"\0")[0].decode()
    text = text.replace(f"from pid {os.getpid()} ({command})", "from pid OURS (COMMAND)")
    text = re.sub(re.escape(str(folder)) + r"/[\w./-]*", "PATH", text)
    # with its path, or by its name alone
    text = re.sub(rf"^\S*{_NAME}(?=: )", "QEMU", text, flags=re.MULTILINE)
    return [
        line
        for line in text.splitlines()
        if not re.match(r"wrote \d|[\d.]+ [KMG]iB, \d+ ops", line)
    ]


def locks(image: Path) -> list[str]:
    """QEMU's locks on an image that somebody holds: permissions taken, and those denied."""
    found = []
    with image.open("rb") as file:
        for at in range(_SHARED, _SHARED + 200):
            ask = _flock(at)
            answer = fcntl.fcntl(file, _F_OFD_GETLK, ask)
            kind = int.from_bytes(answer[:2], sys.byteorder)
            if kind == fcntl.F_UNLCK:
                continue
            bit, verb = at % 100, "uses" if at < 2 * _SHARED else "denies"
            how = "read" if kind == fcntl.F_RDLCK else "write"
            found.append(f"{verb} {_BITS.get(bit, bit)} ({how} lock)")
    return found


def _flock(at: int) -> bytes:
    """`struct flock` of a 64-bit Linux: a write lock on one byte."""
    fields = (fcntl.F_WRLCK, 2), (0, 2), (0, 4), (at, 8), (1, 8), (0, 8)
    return b"".join(value.to_bytes(size, sys.byteorder) for value, size in fields)


def locked(path: Path) -> bool:
    """Whether another process has QEMU's lock on a pid file."""
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def there(path: Path | str) -> str:
    return "there" if os.path.lexists(path) else "gone"


def await_that(what: Callable[[], object], name: str) -> None:
    """Look now and then until it is so."""
    deadline = time.monotonic() + WITHIN
    while not what():
        assert time.monotonic() < deadline, f"waited {WITHIN:g} s for {name}"
        time.sleep(0.005)  # between two looks
