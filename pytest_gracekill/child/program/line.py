"""An open character device: a listener, the client that there is now, and what is to be sent to it.

One client at a time; the next may come when the last has gone. No descriptor's flags are changed,
since whoever handed it over may use it, too: nothing is read or written before `poll` says so.
"""

import os
import select
import socket

from .chardev import Chardev, Unusable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Frontend(Protocol):
        """Who talks to the client."""

        def opened(self) -> None: ...
        def heard(self, data: bytes) -> None: ...
        def closed(self) -> None: ...


MOST_UNREAD = 1 << 20  # bytes that a client leaves unread, after which nothing more is read of it
PIECE = 4096  # bytes that a pipe takes without blocking when poll says that it takes some


class Silence:
    """A frontend that nobody hears from: a serial line of a guest that says nothing."""

    def opened(self) -> None:
        pass

    def heard(self, data: bytes) -> None:
        pass

    def closed(self) -> None:
        pass


class Line:
    """What became of a `Chardev`; `frontend` hears what comes."""

    def __init__(self, chardev: Chardev) -> None:
        self.chardev = chardev
        self.frontend: Frontend = Silence()
        self._listener: socket.socket | None = None
        self._client: socket.socket | None = None
        self._bound = ""
        self._reads = self._writes = -1
        self._unsent = bytearray()

    def open(self, say: "Callable[[str], None]") -> None:
        """Listen, connect, or take what was handed over; with `wait`, wait for the client.

        :raises Unusable: it cannot be had.
        """
        if self.chardev.kind == "stdio":
            self._reads, self._writes = 0, 1
            self.frontend.opened()
        elif self.chardev.kind == "socket":
            made = self._handed_over() if self.chardev.fd >= 0 else self._make()
            if not self.chardev.server:
                self._connect(made)
                return
            self._listener = made
            if self.chardev.wait:
                say(self._waits())
                self._accept()

    def _handed_over(self) -> socket.socket:
        try:
            made = socket.socket(fileno=os.dup(self.chardev.fd))
        except OSError:
            raise Unusable(
                f"{self.chardev.spelled}: File descriptor '{self.chardev.fd}' is not a socket"
            ) from None
        os.close(self.chardev.fd)
        return made

    def _make(self) -> socket.socket:
        chardev = self.chardev
        shown = chardev.path or f"{chardev.host}:{chardev.port}"
        try:
            made = self._make_unix() if chardev.path else self._make_tcp()
        except socket.gaierror as error:
            what = f"address resolution failed for {shown}"
            raise Unusable(f"{chardev.spelled}: {what}: {error.strerror}") from None
        except OSError as error:
            what = f"bind socket to {shown}" if chardev.server else f"connect to '{shown}'"
            raise Unusable(f"{chardev.spelled}: Failed to {what}: {error.strerror}") from None
        return made

    def _make_tcp(self) -> socket.socket:
        chardev = self.chardev
        family, kind, protocol, _, address = socket.getaddrinfo(
            chardev.host or None, chardev.port, 0, socket.SOCK_STREAM, 0, socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
        if chardev.server:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            made.listen(1)
            chardev.port = str(made.getsockname()[1])
        else:
            made.connect(address)
        return made

    def _make_unix(self) -> socket.socket:
        path, made = self.chardev.path, socket.socket(socket.AF_UNIX)
        address = "\0" + path if self.chardev.abstract else path
        if not self.chardev.server:
            made.connect(address)
            return made
        if not self.chardev.abstract:
            _remove(path)
        made.bind(address)
        if not self.chardev.abstract:
            self._bound = os.path.abspath(path)  # noqa: PTH100  # pathlib is start-up time
        made.listen(1)
        return made

    @property
    def filename(self) -> str:
        """How QEMU describes the device: what it is, and who is there."""
        chardev = self.chardev
        if chardev.kind != "socket":
            return chardev.kind
        server = ",server=on" if chardev.server else ""
        address = f"tcp:{chardev.host}:{chardev.port}" if chardev.port else f"unix:{chardev.path}"
        if self._client is None:
            return f"disconnected:{address}{server}"
        if not chardev.port:
            return f"unix:{chardev.path}{server}" if chardev.server else "unix:"
        host, port = self._client.getpeername()[:2]
        return f"{address}{server} <-> {host}:{port}"

    def _waits(self) -> str:
        return f"{self.chardev.spelled}: info: QEMU waiting for connection on: {self.filename}"

    # -- a client

    def _accept(self) -> None:
        assert self._listener is not None
        self._connect(self._listener.accept()[0])

    def _connect(self, client: socket.socket) -> None:
        self._client = client
        self._reads = self._writes = client.fileno()
        self.frontend.opened()

    def interest(self) -> list[tuple[int, int]]:
        """Return what to poll for, as pairs of descriptor and events."""
        if self._reads < 0:
            listener = self._listener
            return [] if listener is None else [(listener.fileno(), select.POLLIN)]
        reads = select.POLLIN if len(self._unsent) < MOST_UNREAD else 0
        writes = select.POLLOUT if self._unsent else 0
        if self._reads == self._writes:
            return [(self._reads, reads | writes)]
        return [(self._reads, reads)] + ([(self._writes, writes)] if writes else [])

    def attend(self, fd: int, events: int) -> None:
        """Do what poll says can be done now."""
        if self._reads < 0:
            self._accept()
            return
        if fd == self._writes and events & select.POLLOUT:
            self._send_some()
        if fd == self._reads and events & ~select.POLLOUT:
            data = self._receive()
            if data is None:
                return
            if data:
                self.frontend.heard(data)
            else:
                self._let_go()

    def _receive(self) -> bytes | None:
        """Return what has come, nothing when the client has gone, None when it was for nothing."""
        try:
            if self._client is None:
                return os.read(self._reads, 65536)
            return self._client.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return b""  # reset, or a terminal that has gone

    def send(self, data: bytes) -> None:
        """Send as soon as the client takes it."""
        if self._writes >= 0:
            self._unsent += data
            self._send_some()

    def _send_some(self) -> None:
        try:
            while self._unsent and self._writes >= 0:
                if self._client is not None:
                    sent = self._client.send(self._unsent, socket.MSG_DONTWAIT)
                elif _takes_some(self._writes):
                    sent = os.write(self._writes, self._unsent[:PIECE])
                else:
                    return
                del self._unsent[:sent]
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()  # nobody reads any more: the end of its input comes, too

    def _let_go(self) -> None:
        self._reads = self._writes = -1
        self._unsent.clear()
        if self._client is not None:
            self._client.close()
            self._client = None
        self.frontend.closed()

    def hang_up(self) -> None:
        """Let the client read the end of file, and let nobody connect any more."""
        if self._client is not None:
            try:
                self._client.shutdown(socket.SHUT_RDWR)
                # closed with something unread, the socket would be reset: no end of file
                while self._client.recv(65536, socket.MSG_DONTWAIT):
                    pass
            except OSError:
                pass
            self._client.close()
        elif self._reads >= 0:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, self._reads)
            os.dup2(null, self._writes)
            os.close(null)
        self._reads = self._writes = -1
        if self._listener is not None:
            self._listener.close()
            if self._bound:
                _remove(self._bound)


def _takes_some(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))


def _remove(path: str) -> None:
    try:  # noqa: SIM105  # contextlib is start-up time
        os.unlink(path)  # noqa: PTH108  # as above
    except FileNotFoundError:
        pass
