"""A disk over NBD that can be slow, or held: what a real QEMU writes to.

    with NbdServer(image, socket=path) as server:      # image: a raw file, or a qcow2 as it lies
        ...                                            # -blockdev driver=nbd,server.type=unix,...
        server.write_delay = 0.05                      # from now on each write takes 50 ms
        server.gate.hold()                             # no write and no flush gets through
        server.gate.seen.wait(5)                       # ... and one has come to stand there
        server.gate.let(3)                             # three get through
        server.gate.open()                             # all do

A client connects to the UNIX socket, or gets one end of a socket pair that `connect` returns
(QEMU: ``server.type=fd,server.str=N``), which leaves no file behind. Requests of one connection are
served one after the other, in a daemon thread ``gracekill:nbd-N``; reads never wait for the gate
themselves, but stand behind a write that does. `served` has every write and flush that was met.

What is in flight when the client hangs up (it was SIGKILLed) is dropped, and so is what it has sent
after that: a real network disk might still apply it, and then less would be lost than here.
Writes go to the page cache; it cannot see what a power loss would do.
"""

from __future__ import annotations

import itertools
import os
import select
import socket as sockets
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pytest_gracekill import clock
from pytest_gracekill.errors import UsageError

from . import nbd_wire as wire
from .launch import LONGEST_SOCKET_PATH
from .nbd_gate import Gate, Pace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .nbd_wire import Link, Request

_numbers = itertools.count(1)

_ZEROES = bytes(1 << 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A request that changes the disk: when it came, and when it was done or dropped."""

    kind: str
    offset: int
    length: int
    met_ns: int
    done_ns: int
    applied: bool

    def __str__(self) -> str:
        state = "applied" if self.applied else "dropped"
        return f"{self.kind} of {self.length} bytes at {self.offset}, {state}"


class NbdServer:
    """Serves one file; see the module. ``write_delay`` and ``flush_delay`` are seconds per request.

    :param image: the file; its size is the export's, which cannot grow.
    :param socket: where to listen; None: only what `connect` returns is served.
    :raises UsageError: the path is too long for a UNIX socket's address.
    """

    def __init__(
        self,
        image: Path,
        socket: Path | None = None,
        *,
        write_delay: float = 0.0,
        flush_delay: float = 0.0,
    ) -> None:
        self.write_delay = write_delay
        self.flush_delay = flush_delay
        self.socket = socket
        #: Every write, zeroing, trim and flush, in the order in which they ended.
        self.served: list[Served] = []
        #: Called in a thread of the server's: with each request that changes the disk, or says good
        #: bye, when it comes, and with what became of it.
        self.on_met: Callable[[Request], object] = lambda _: None
        self.on_served: Callable[[Served], object] = lambda _: None
        #: What went wrong with the file, one line each; the client was told EIO.
        self.problems: list[str] = []
        self._pace = Pace()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._closed = False
        listening = None if socket is None else _listen(socket)
        self._file = os.open(image, os.O_RDWR | os.O_CLOEXEC)
        self.size = os.fstat(self._file).st_size
        self.gate = Gate()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        if listening is not None:
            self._start(self._accept, listening)

    def connect(self) -> sockets.socket:
        """Return the client's end of a connection; whoever gets it has to close it."""
        ours, theirs = sockets.socketpair()
        try:
            self._start(self._serve, ours)
        except BaseException:
            theirs.close()
            raise
        return theirs

    def close(self, timeout: float = 5.0) -> None:
        """Drop what is in flight, hang up on every client, end the threads. Idempotent.

        Afterwards nobody writes to the file any more.

        :raises TimeoutError: a thread is still there after so many seconds.
        """
        if self._closed:
            return
        os.eventfd_write(self._stop, 1)
        deadline = clock.monotonic() + timeout
        with self._lock:
            self._closed = True
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - clock.monotonic()))
            if thread.is_alive():
                self._closed = False  # what it uses stays open
                raise TimeoutError(f"{thread.name} is still there after {timeout:g} s")
        os.close(self._stop)
        os.close(self._file)
        self.gate.close()
        if self.socket is not None:
            self.socket.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        where = "a socket pair" if self.socket is None else self.socket
        return f"<NbdServer on {where}, {self.gate}>"

    # -- its threads

    def _start(self, work: object, sock: sockets.socket) -> None:
        assert callable(work)
        thread = threading.Thread(
            target=work, args=(sock,), name=f"gracekill:nbd-{next(_numbers)}", daemon=True
        )
        with self._lock:
            if self._closed:
                sock.close()
                raise ValueError("the NBD server is closed")
            self._threads.append(thread)
            thread.start()

    def _accept(self, listening: sockets.socket) -> None:
        poll = select.poll()
        poll.register(listening, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        with listening:
            while self._stop not in dict(poll.poll()):
                try:
                    sock, _ = listening.accept()
                except (BlockingIOError, ConnectionError):
                    continue  # it has gone already
                try:
                    self._start(self._serve, sock)
                except ValueError:
                    return

    def _serve(self, sock: sockets.socket) -> None:
        link = wire.Link(sock, self._stop)
        with sock:
            try:
                if wire.negotiate(link, self.size):
                    while self._answer(link, wire.next_request(link)):
                        pass
            except wire.HungUpError:
                return

    def _answer(self, link: Link, request: Request) -> bool:
        """Serve one request; False when it was the last."""
        if request.command != wire.READ:
            self.on_met(request)
        if request.command == wire.DISC:
            return False
        if request.command == wire.READ:
            wire.reply(link, request, *self._read(request))
            return True
        if request.command not in wire.NAMES:
            wire.reply(link, request, wire.EINVAL)
            return True
        error = wire.EIO
        met = clock.monotonic_ns()
        applied = False
        try:
            slow = self._hold(link, request)
            error = self._apply(request)
            applied = not error
        finally:
            served = Served(
                kind=wire.NAMES[request.command],
                offset=request.offset,
                length=request.length,
                met_ns=met,
                done_ns=clock.monotonic_ns(),
                applied=applied,
            )
            self.served.append(served)
            self.on_served(served)
        wire.reply(link, request, error)
        if slow > 0:
            self._pace.answered(clock.monotonic())
        return True

    def _hold(self, link: Link, request: Request) -> float:
        """Keep a request for as long as the gate, and the delay, have it; returns the delay."""
        link.check()  # what was sent before a hang-up may still be read after it
        self._stand(link)
        slow = self.flush_delay if request.command == wire.FLUSH else self.write_delay
        if request.fua:
            slow += self.flush_delay
        if slow > 0:
            link.wait(until=self._pace.due(clock.monotonic(), slow))
        link.check()
        return slow

    def _stand(self, link: Link) -> None:
        """Stand before the gate until it lets through."""
        if self.gate.passes():
            return
        since = clock.monotonic()
        try:
            link.wait(fd=self.gate.fileno())
            while not self.gate.passes():
                link.wait(fd=self.gate.fileno())
        finally:
            self.gate.stood += clock.monotonic() - since

    # -- the file

    def _read(self, request: Request) -> tuple[int, bytes]:
        if request.offset + request.length > self.size:
            return wire.EINVAL, b""
        try:
            data = os.pread(self._file, request.length, request.offset)
        except OSError as error:
            self.problems.append(f"{request}: {error.strerror}")
            return wire.EIO, b""
        if len(data) == request.length:
            return 0, data
        self.problems.append(f"{request}: the file has become shorter")
        return wire.EIO, b""

    def _apply(self, request: Request) -> int:
        """Do what is asked; 0, or the error. Trimmed is nothing: it may be left as it is."""
        if request.command in (wire.FLUSH, wire.TRIM):
            return 0
        if request.offset + request.length > self.size:
            return wire.ENOSPC
        try:
            if request.command == wire.WRITE:
                self._write(request.data, request.offset)
                return 0
            for at in range(request.offset, request.offset + request.length, len(_ZEROES)):
                left = request.offset + request.length - at
                self._write(_ZEROES[:left], at)
        except OSError as error:
            self.problems.append(f"{request}: {error.strerror}")
            return wire.EIO
        return 0

    def _write(self, data: bytes, offset: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file, view, offset)
            view, offset = view[written:], offset + written


def _listen(path: Path) -> sockets.socket:
    length = len(os.fsencode(path))
    if length > LONGEST_SOCKET_PATH:
        raise UsageError(
            f"{path}: {length} bytes are too long for a UNIX socket, which takes"
            f" {LONGEST_SOCKET_PATH}: choose a shorter folder"
        )
    listening = sockets.socket(sockets.AF_UNIX)
    try:
        listening.bind(str(path))
        listening.listen()
        listening.setblocking(False)  # noqa: FBT003 - its signature
    except BaseException:
        listening.close()
        raise
    return listening
