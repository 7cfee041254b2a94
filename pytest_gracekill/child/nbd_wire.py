"""The NBD protocol as far as a disk with one export needs it: newstyle handshake, simple replies.

Bytes go over a `Link`, a connected socket whose every wait ends when the peer hangs up or the
server is told to stop. After https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md;
there is no TLS, no structured reply, no block status, and whatever name a client gives is this
export.
"""

from __future__ import annotations

import select
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gracekill import clock

if TYPE_CHECKING:
    import socket

READ, WRITE, DISC, FLUSH, TRIM, WRITE_ZEROES = 0, 1, 2, 3, 4, 6
NAMES = {
    READ: "read",
    WRITE: "write",
    DISC: "disconnect",
    FLUSH: "flush",
    TRIM: "trim",
    WRITE_ZEROES: "write zeroes",
}
FUA = 1  # of a request's flags

EIO, EINVAL, ENOSPC = 5, 22, 28

LARGEST = 32 << 20
"""Bytes of one read or write; what every client keeps to."""

_INIT, _OPTION, _REPLY = 0x4E42444D41474943, 0x49484156454F5054, 0x3E889045565A9
_REQUEST, _SIMPLE = 0x25609513, 0x67446698
_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
# has flags, flush, FUA, trim, write zeroes
_EXPORT = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6
_EXPORT_NAME, _ABORT, _LIST, _INFO, _GO = 1, 2, 3, 6, 7
_ACK, _SERVER, _IS = 1, 2, 3
_UNSUPPORTED, _INVALID = 1 << 31 | 1, 1 << 31 | 3
_LARGEST_OPTION = 1 << 16


class HungUpError(ConnectionError):
    """The peer has gone or does not speak NBD, or the server stops: nobody is to be answered."""


class Link:
    """One connection; ``stop`` is a descriptor that becomes readable when the server is to end."""

    def __init__(self, sock: socket.socket, stop: int) -> None:
        sock.setblocking(False)  # noqa: FBT003 - its signature
        self._sock = sock
        self._stop = stop

    def receive(self, size: int) -> bytes:
        """Return exactly so many bytes."""
        parts, left = [], size
        while left:
            try:
                part = self._sock.recv(min(left, 1 << 20))
            except BlockingIOError:
                # what was sent before a hang-up is read; whether it counts, the caller asks
                self._poll(self._sock.fileno(), select.POLLIN)
                continue
            except OSError as error:
                raise HungUpError(str(error)) from error
            if not part:
                raise HungUpError("end of file")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def send(self, data: bytes) -> None:
        """Send everything, to a peer that may be stopped."""
        view = memoryview(data)
        while view:
            try:
                sent = self._sock.send(view)
            except BlockingIOError:
                self._poll(self._sock.fileno(), select.POLLOUT)
                continue
            except OSError as error:
                raise HungUpError(str(error)) from error
            view = view[sent:]

    def check(self) -> None:
        """:raises HungUpError: the peer has gone, even where it has left requests behind."""
        poll = select.poll()
        poll.register(self._sock.fileno(), select.POLLRDHUP)
        if poll.poll(0):
            raise HungUpError("hung up")

    def wait(self, until: float | None = None, fd: int = -1) -> None:
        """Wait for a moment (CLOCK_MONOTONIC seconds), or until a descriptor is readable.

        :raises HungUpError: as long as the peer has not hung up.
        """
        poll = select.poll()
        poll.register(self._sock.fileno(), select.POLLRDHUP)
        poll.register(self._stop, select.POLLIN)
        if fd >= 0:
            poll.register(fd, select.POLLIN)
        while True:
            left = None if until is None else max(0.0, until - clock.monotonic()) * 1000
            events = dict(poll.poll(left))
            if set(events) - {fd}:
                raise HungUpError("hung up, or stopped")
            if events or (until is not None and clock.monotonic() >= until):
                return

    def _poll(self, fd: int, event: int) -> None:
        poll = select.poll()
        poll.register(fd, event)
        poll.register(self._stop, select.POLLIN)
        if self._stop in dict(poll.poll()):
            raise HungUpError("stopped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of a client; ``data`` is what a write brings."""

    command: int
    handle: int
    offset: int
    length: int
    fua: bool
    data: bytes

    def __str__(self) -> str:
        name = NAMES.get(self.command, f"command {self.command}")
        return f"{name} of {self.length} bytes at {self.offset}"


def negotiate(link: Link, size: int) -> bool:
    """Shake hands; False when the client only asked, and goes."""
    link.send(struct.pack(">QQH", _INIT, _OPTION, _FIXED_NEWSTYLE | _NO_ZEROES))
    (flags,) = struct.unpack(">I", link.receive(4))
    while True:
        magic, option, length = struct.unpack(">QII", link.receive(16))
        if magic != _OPTION or length > _LARGEST_OPTION:
            raise HungUpError(f"no NBD option: magic {magic:#x}, {length} bytes")
        data = link.receive(length)
        if option == _EXPORT_NAME:
            link.send(struct.pack(">QH", size, _EXPORT) + (b"" if flags & 2 else bytes(124)))
            return True
        if option == _ABORT:
            _answer(link, option, _ACK)
            return False
        if option == _LIST:
            _answer(link, option, _SERVER, struct.pack(">I", 0))
            _answer(link, option, _ACK)
        elif option in (_INFO, _GO) and not _well_formed(data):
            _answer(link, option, _INVALID)
        elif option in (_INFO, _GO):
            _answer(link, option, _IS, struct.pack(">HQH", 0, size, _EXPORT))
            _answer(link, option, _ACK)
            if option == _GO:
                return True
        else:
            _answer(link, option, _UNSUPPORTED)


def _well_formed(data: bytes) -> bool:
    """Whether this is a name, and a list of the information that is wanted."""
    try:
        (length,) = struct.unpack_from(">I", data)
        (wanted,) = struct.unpack_from(">H", data, 4 + length)
    except struct.error:
        return False
    return 4 + int(length) + 2 + 2 * int(wanted) == len(data)


def _answer(link: Link, option: int, kind: int, data: bytes = b"") -> None:
    link.send(struct.pack(">QIII", _REPLY, option, kind, len(data)) + data)


def next_request(link: Link) -> Request:
    """The client's next request, with its data."""
    magic, flags, command, handle, offset, length = struct.unpack(">IHHQQI", link.receive(28))
    if magic != _REQUEST or (command in (READ, WRITE) and length > LARGEST):
        raise HungUpError(f"no NBD request: magic {magic:#x}, {length} bytes")
    data = link.receive(length) if command == WRITE else b""
    return Request(
        command=command,
        handle=handle,
        offset=offset,
        length=length,
        fua=bool(flags & FUA),
        data=data,
    )


def ask_export(sock: socket.socket, name: str) -> None:
    """The client's side: ask for an export by its name. The socket has its timeout.

    :raises ConnectionError: the server is none, or has no such export.
    """
    greeting = _exactly(sock, 18)
    if greeting[:16] != struct.pack(">QQ", _INIT, _OPTION):
        raise ConnectionError(f"no NBD server: it says {greeting!r}")
    data = struct.pack(">I", len(name)) + name.encode() + bytes(2)
    head = struct.pack(">IQII", _FIXED_NEWSTYLE | _NO_ZEROES, _OPTION, _GO, len(data))
    sock.sendall(head + data)
    kind = 0
    while kind != _ACK:
        _, _, kind, length = struct.unpack(">QIII", _exactly(sock, 20))
        told = _exactly(sock, length)
        if kind & 1 << 31:
            raise ConnectionError(f"no NBD export {name}: {told.decode(errors='replace')}")


def ask(sock: socket.socket, command: int, offset: int = 0, data: bytes = b"") -> int:
    """The client's side: have one request served; returns the error, 0 for none."""
    sock.sendall(struct.pack(">IHHQQI", _REQUEST, 0, command, 0, offset, len(data)) + data)
    _, error, _ = struct.unpack(">IIQ", _exactly(sock, 16))
    return int(error)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise ConnectionError("the NBD server has hung up")
        data += part
    return data


def reply(link: Link, request: Request, error: int, data: bytes = b"") -> None:
    """Answer a request; ``error`` is 0, or what went wrong, and then there is no data."""
    link.send(struct.pack(">IIQ", _SIMPLE, error, request.handle) + data)
