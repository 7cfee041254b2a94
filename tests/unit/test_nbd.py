"""The NBD server as a client sees it that is written here, byte by byte; `tests/real` has QEMU ask.

Delays are looked at in the order of things and in what the file holds, never on a clock.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_gracekill.errors import UsageError

if sys.platform != "linux":
    pytest.skip("the server needs eventfd and POLLRDHUP", allow_module_level=True)

from pytest_gracekill.child import nbd_wire as wire
from pytest_gracekill.child.nbd import NbdServer

SIZE = 1 << 20
WITHIN = 20.0
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES = range(7)
GO, INFO, LIST, ABORT, EXPORT_NAME, STARTTLS = 7, 6, 3, 2, 1, 5
OPTION, REPLY = 0x49484156454F5054, 0x3E889045565A9
ACK, SERVER, IS = 1, 2, 3


class Client:
    """One connection, as raw as it gets."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(WITHIN)

    def get(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.sock.recv(size - len(data))
            if not part:
                raise EOFError(f"after {len(data)} of {size} bytes")
            data += part
        return data

    def greet(self, flags: int = 3) -> None:
        assert self.get(18) == b"NBDMAGICIHAVEOPT" + b"\0\3"
        self.sock.sendall(struct.pack(">I", flags))

    def ask(self, option: int, data: bytes = b"") -> None:
        self.sock.sendall(struct.pack(">QII", OPTION, option, len(data)) + data)

    def told(self) -> tuple[int, int, bytes]:
        magic, option, kind, length = struct.unpack(">QIII", self.get(20))
        assert magic == REPLY
        return option, kind, self.get(length)

    def go(self) -> None:
        self.greet()
        self.ask(GO, struct.pack(">IH", 0, 0))
        option, kind, info = self.told()
        assert (option, kind) == (GO, IS)
        assert struct.unpack(">HQH", info) == (0, SIZE, 0b1101101)
        assert self.told() == (GO, ACK, b"")

    def send(
        self, command: int, offset: int = 0, length: int = 0, data: bytes = b"", flags: int = 0
    ) -> None:
        length = length or len(data)
        head = struct.pack(">IHHQQI", 0x25609513, flags, command, 77, offset, length)
        self.sock.sendall(head + data)

    def answer(self, length: int = 0) -> tuple[int, bytes]:
        magic, error, handle = struct.unpack(">IIQ", self.get(16))
        assert (magic, handle) == (0x67446698, 77)
        return error, b"" if error else self.get(length)

    def write(self, offset: int, data: bytes) -> None:
        self.send(WRITE, offset, data=data)
        assert self.answer() == (0, b"")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(SIZE)
    return path


@pytest.fixture
def server(image: Path) -> Iterator[NbdServer]:
    with NbdServer(image) as serving:
        yield serving


@pytest.fixture
def client(server: NbdServer) -> Iterator[Client]:
    with server.connect() as sock:
        connected = Client(sock)
        connected.go()
        yield connected


def content(image: Path, offset: int, length: int) -> bytes:
    with image.open("rb") as file:
        return os.pread(file.fileno(), length, offset)


def await_served(server: NbdServer, number: int) -> None:
    deadline = time.monotonic() + WITHIN
    while len(server.served) < number:
        assert time.monotonic() < deadline, f"waited {WITHIN:g} s for request {number}"
        time.sleep(0.001)  # between two looks


def test_what_is_written_is_read_and_lies_in_the_file(client: Client, image: Path) -> None:
    data = os.urandom(5000)
    client.write(4096, data)
    client.send(READ, 4096, length=5000)
    assert client.answer(5000) == (0, data)
    assert content(image, 4096, 5000) == data
    client.send(ZEROES, 4096 + 100, length=4000)
    assert client.answer() == (0, b"")
    assert content(image, 4096, 5000) == data[:100] + bytes(4000) + data[4100:]
    for command in (FLUSH, TRIM):
        client.send(command)
        assert client.answer() == (0, b"")
    assert content(image, 4096, 100) == data[:100]


def test_it_records_what_changes_the_disk(client: Client, server: NbdServer) -> None:
    client.write(512, b"x" * 512)
    client.send(READ, 0, length=512)
    client.answer(512)
    client.send(FLUSH)
    client.answer()
    write, flush = server.served
    assert (write.kind, write.offset, write.length, write.applied) == ("write", 512, 512, True)
    assert flush.kind == "flush"
    assert write.met_ns <= write.done_ns <= flush.met_ns <= flush.done_ns
    assert str(write) == "write of 512 bytes at 512, applied"


@pytest.mark.parametrize(
    ("command", "offset", "error"),
    [
        (READ, SIZE - 100, 22),
        (WRITE, SIZE - 100, 28),
        (ZEROES, SIZE - 100, 28),
        (CACHE, 0, 22),
    ],
)
def test_what_cannot_be_is_refused_and_the_connection_goes_on(
    client: Client, image: Path, command: int, offset: int, error: int
) -> None:
    client.send(command, offset, length=512, data=b"x" * 512 if command == WRITE else b"")
    assert client.answer() == (error, b"")
    client.write(0, b"y" * 512)
    assert content(image, 0, 513) == b"y" * 512 + b"\0"
    assert image.stat().st_size == SIZE


def test_an_error_of_the_file_is_told_to_the_client_and_to_us(
    client: Client, server: NbdServer, image: Path
) -> None:
    os.truncate(image, 0)
    client.send(READ, 0, length=512)
    assert client.answer() == (5, b"")
    assert server.problems == ["read of 512 bytes at 0: the file has become shorter"]


def test_the_held_gate_holds_writes_and_flushes_until_it_is_opened(
    client: Client, server: NbdServer, image: Path
) -> None:
    assert not server.gate.held
    server.gate.hold()
    client.send(READ, 0, length=512)
    assert client.answer(512) == (0, bytes(512))
    assert not server.gate.seen.is_set()
    client.send(WRITE, 0, data=b"x" * 512)
    assert server.gate.seen.wait(WITHIN)
    assert content(image, 0, 512) == bytes(512)
    assert not server.served
    server.gate.open()
    assert client.answer() == (0, b"")
    assert content(image, 0, 512) == b"x" * 512
    server.gate.hold()
    assert not server.gate.seen.is_set()
    client.send(FLUSH)
    assert server.gate.seen.wait(WITHIN)
    server.gate.open()
    assert client.answer() == (0, b"")


def test_the_gate_lets_as_many_through_as_it_is_told(
    client: Client, server: NbdServer, image: Path
) -> None:
    server.gate.let(3)
    for block in range(5):
        client.send(WRITE, block * 512, data=b"x" * 512)
    assert server.gate.seen.wait(WITHIN)
    assert [request.offset for request in server.served] == [0, 512, 1024]
    assert content(image, 0, 5 * 512) == b"x" * 3 * 512 + bytes(2 * 512)
    server.gate.let(1)
    for _ in range(4):
        client.answer()
    assert server.gate.seen.wait(WITHIN)
    assert len(server.served) == 4


@pytest.mark.parametrize("opened_then", [True, False], ids=["opened", "closed"])
def test_what_is_in_flight_at_a_hang_up_is_dropped_with_all_that_was_sent(
    client: Client, server: NbdServer, image: Path, *, opened_then: bool
) -> None:
    server.gate.hold()
    for block in range(5):
        client.send(WRITE, block * 512, data=b"x" * 512)
    assert server.gate.seen.wait(WITHIN)
    client.sock.close()
    if opened_then:
        server.gate.open()
    await_served(server, 1)
    server.close()
    assert [(request.offset, request.applied) for request in server.served] == [(0, False)]
    assert content(image, 0, SIZE) == bytes(SIZE)


def test_a_hang_up_in_the_delay_drops_the_write(
    client: Client, server: NbdServer, image: Path
) -> None:
    server.write_delay = 600
    client.send(WRITE, 0, data=b"x" * 512)
    client.sock.close()
    await_served(server, 1)
    assert not server.served[0].applied
    assert content(image, 0, SIZE) == bytes(SIZE)


def test_each_write_takes_its_delay_and_a_flush_takes_another(
    client: Client, server: NbdServer
) -> None:
    server.write_delay, server.flush_delay = 0.03, 0.06
    for block in range(5):
        client.write(block * 512, b"x" * 512)
    client.send(FLUSH)
    assert client.answer() == (0, b"")
    client.send(WRITE, 0, data=b"x" * 512, flags=1)  # FUA: it is flushed, too
    assert client.answer() == (0, b"")
    first = server.served[0].met_ns
    due = [0.03, 0.06, 0.09, 0.12, 0.15, 0.21, 0.30]
    took = [(request.done_ns - first) / 1e9 for request in server.served]
    # none is early; how late they are is the machine's doing
    assert all(is_ >= at for is_, at in zip(took, due, strict=True)), took
    assert [request.kind for request in server.served] == ["write"] * 5 + ["flush", "write"]


def test_the_first_slow_write_is_slow_even_after_fast_ones(
    client: Client, server: NbdServer
) -> None:
    client.write(0, b"x" * 512)
    server.write_delay = 0.1
    client.write(0, b"x" * 512)
    last = server.served[-1]
    assert last.done_ns - last.met_ns >= 100_000_000


def test_close_ends_what_waits_and_nobody_writes_after_it(
    client: Client, server: NbdServer, image: Path
) -> None:
    server.gate.hold()
    client.send(WRITE, 0, data=b"x" * 512)
    assert server.gate.seen.wait(WITHIN)
    names = {thread.name for thread in threading.enumerate()}
    assert any(name.startswith("gracekill:nbd-") for name in names)
    server.close()
    server.close()
    left = {thread.name for thread in threading.enumerate()}
    assert not {name for name in left if name.startswith("gracekill:nbd-")}
    with pytest.raises(EOFError):
        client.answer()
    assert content(image, 0, SIZE) == bytes(SIZE)
    with pytest.raises(ValueError, match="the NBD server is closed"):
        server.connect()


def test_close_does_not_wait_for_a_client_that_reads_nothing(
    client: Client, server: NbdServer
) -> None:
    for _ in range(20):
        client.send(READ, 0, length=SIZE)
    server.close()


def test_a_client_that_says_good_bye_is_let_go(client: Client) -> None:
    client.send(DISC)
    with pytest.raises(EOFError):
        client.get(1)


def test_it_listens_on_a_socket_for_several_clients(image: Path, tmp_path: Path) -> None:
    path = tmp_path / "nbd"
    with NbdServer(image, path) as server:
        assert repr(server) == f"<NbdServer on {path}, <Gate open>>"
        clients = []
        for block in range(3):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(path))
            client = Client(sock)
            client.go()
            client.write(block * 512, b"x" * 512)
            clients.append(client)
        server.gate.hold()
        clients[0].send(WRITE, 8192, data=b"y" * 512)
        assert server.gate.seen.wait(WITHIN)
        clients[1].send(READ, 0, length=512)
        assert clients[1].answer(512) == (0, b"x" * 512)
    assert not path.exists()
    assert content(image, 0, 4 * 512) == b"x" * 3 * 512 + bytes(512)
    for client in clients:
        client.sock.close()


def test_options_of_the_handshake(server: NbdServer) -> None:
    with server.connect() as sock:
        client = Client(sock)
        client.greet()
        client.ask(STARTTLS)
        assert client.told() == (STARTTLS, 1 << 31 | 1, b"")
        client.ask(LIST)
        assert client.told() == (LIST, SERVER, bytes(4))
        assert client.told() == (LIST, ACK, b"")
        client.ask(INFO, b"\0\0\0\7dis")
        assert client.told() == (INFO, 1 << 31 | 3, b"")
        client.ask(INFO, struct.pack(">I4sHH", 4, b"disk", 1, 3))
        assert client.told()[:2] == (INFO, IS)
        assert client.told() == (INFO, ACK, b"")
        client.ask(ABORT)
        assert client.told() == (ABORT, ACK, b"")
        with pytest.raises(EOFError):
            client.get(1)


@pytest.mark.parametrize(("flags", "zeroes"), [(1, 124), (3, 0)])
def test_the_old_way_to_name_an_export(server: NbdServer, flags: int, zeroes: int) -> None:
    with server.connect() as sock:
        client = Client(sock)
        client.greet(flags)
        client.ask(EXPORT_NAME, b"disk")
        assert struct.unpack(">QH", client.get(10)) == (SIZE, 0b1101101)
        assert client.get(zeroes) == bytes(zeroes)
        client.write(0, b"x" * 512)


@pytest.mark.parametrize(
    "nonsense", [b"GET / HTTP/1.1\r\nHost: example\r\n\r\n", b"\xff" * 64], ids=["http", "ones"]
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_who_does_not_speak_nbd_is_hung_up_on(
    server: NbdServer, image: Path, when: str, nonsense: bytes
) -> None:
    with server.connect() as sock:
        client = Client(sock)
        if when == "after":
            client.go()
        else:
            client.greet()
        client.sock.sendall(nonsense)
        with pytest.raises((EOFError, ConnectionError)):
            client.get(1)
    assert content(image, 0, SIZE) == bytes(SIZE)


def test_a_path_that_is_too_long_for_a_socket_is_named(image: Path, tmp_path: Path) -> None:
    path = tmp_path / ("long" * 30)
    with pytest.raises(UsageError, match="too long for a UNIX socket"):
        NbdServer(image, path)


def test_who_wants_to_know_is_told_of_each_request(client: Client, server: NbdServer) -> None:
    told: list[str] = []
    server.on_met = lambda request: told.append(f"met {request}")
    server.on_served = lambda served: told.append(f"served {served}")
    client.write(512, b"x" * 512)
    client.send(READ, 0, length=512)
    client.answer(512)
    client.send(DISC)
    with pytest.raises(EOFError):
        client.get(1)
    server.close()
    assert told == [
        "met write of 512 bytes at 512",
        "served write of 512 bytes at 512, applied",
        "met disconnect of 0 bytes at 0",
    ]


def test_the_gate_knows_for_how_long_requests_have_stood_there(
    client: Client, server: NbdServer
) -> None:
    client.write(0, b"x" * 512)
    assert server.gate.stood == 0
    server.gate.hold()
    client.send(FLUSH)
    assert server.gate.seen.wait(WITHIN)
    began = time.monotonic()
    time.sleep(0.05)  # what is measured
    ended = time.monotonic()
    server.gate.open()
    client.answer()
    assert server.gate.stood >= ended - began


def test_the_clients_side_of_the_protocol(server: NbdServer, image: Path) -> None:
    with server.connect() as sock:
        sock.settimeout(WITHIN)
        wire.ask_export(sock, "disk")
        assert wire.ask(sock, wire.WRITE, 512, b"x" * 512) == 0
        assert wire.ask(sock, wire.FLUSH) == 0
        assert wire.ask(sock, wire.WRITE, SIZE, b"x" * 512) == 28
    assert content(image, 0, 1024) == bytes(512) + b"x" * 512


def test_the_clients_side_tells_who_is_no_server() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"220 mail.example ESMTP")
        with pytest.raises(ConnectionError, match="no NBD server: it says b'220 mail"):
            wire.ask_export(ours, "disk")


def test_a_gate_whose_server_is_closed_touches_no_file_of_others(
    server: NbdServer, tmp_path: Path
) -> None:
    fd = server.gate.fileno()
    server.gate.hold()
    server.close()
    other = tmp_path / "other"
    with other.open("wb") as file:
        # the first free number from there on: its own, unless the file itself has got that
        again = file.fileno() if file.fileno() == fd else fcntl.fcntl(file, fcntl.F_DUPFD, fd)
        assert again == fd
        server.gate.open()
        server.gate.let(1)
        server.gate.hold()
        if again != file.fileno():
            os.close(again)
    assert other.read_bytes() == b""
    assert server.gate.held
