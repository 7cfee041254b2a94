"""QMP in the fake, word for word: the literals are what QEMU 7.2.22 of Debian 12 answered.

Seen with `qemu-system-x86_64 -machine q35 -display none -nodefaults`, a disk by `-drive`, and a
guest that powers off for `guest-shutdown`. Event stamps are the only thing that differs.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from pytest_gracekill.child.handle import FakeQemu, spawn
from pytest_gracekill.child.knobs import Crash, Knobs
from pytest_gracekill.child.program.chardev import Chardev
from pytest_gracekill.child.program.line import MOST_UNREAD, Line
from pytest_gracekill.child.programfile import argv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.child.journal import Entry

WITHIN = 20.0
GREETING = (
    '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, '
    '"package": "Debian 1:7.2+dfsg-7+deb12u18+b3"}, "capabilities": ["oob"]}}'
)
NEGOTIATE = b'{"execute": "qmp_capabilities"}\n'
QUIT = b'{"execute": "quit", "id": "q"}\n'
DONE = '{"return": {}}'


def error(kind: str, text: str) -> str:
    return f'{{"error": {{"class": "{kind}", "desc": "{text}"}}}}'


def event(name: str, data: str = "") -> str:
    """An event as `Client.line` returns it: its stamp is left out."""
    more = f', "data": {data}' if data else ""
    return f'{{"timestamp": T, "event": "{name}"{more}}}'


SHUT_DOWN = {
    reason: event("SHUTDOWN", f'{{"guest": {guest}, "reason": "{reason}"}}')
    for guest, reason in {
        "false": "host-qmp-quit",
        "true": "guest-shutdown",
    }.items()
} | {"host-signal": event("SHUTDOWN", '{"guest": false, "reason": "host-signal"}')}
RESET = event("RESET", '{"guest": false, "reason": "host-qmp-system-reset"}')


class Client:
    """The other end of a monitor, without a mind of its own."""

    def __init__(self, address: str | socket.socket) -> None:
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(address)  # without a timeout: it waits for room in the backlog
        else:
            self.socket = address
        self.socket.settimeout(WITHIN)
        self.stamps: list[float] = []
        self._unread = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self) -> str:
        """The next line, '' at the end of file; the stamp of an event goes to `stamps`."""
        while b"\r\n" not in self._unread:
            received = self.socket.recv(65536)
            if not received:
                assert not self._unread
                return ""
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\r\n")
        return re.sub(
            r'(?<="timestamp": )\{"seconds": (\d+), "microseconds": (\d+)\}',
            lambda found: self._note(int(found[1]), int(found[2])),
            line.decode("ascii"),
        )

    def _note(self, seconds: int, microseconds: int) -> str:
        assert microseconds < 1_000_000
        self.stamps.append(seconds + microseconds / 1e6)
        return "T"

    def lines(self, count: int) -> list[str]:
        return [self.line() for _ in range(count)]

    def rest(self) -> list[str]:
        """Everything up to the end of file."""
        return list(iter(self.line, ""))

    def ask(self, command: str) -> str:
        """Give a command; the next line."""
        self.send(f'{{"execute": "{command}"}}\n'.encode())
        return self.line()

    def negotiate(self) -> Client:
        assert self.line() == GREETING
        self.send(NEGOTIATE)
        assert self.line() == DONE
        return self


class Spawn(Protocol):
    def __call__(self, **knobs: object) -> FakeQemu: ...


class Connect(Protocol):
    def __call__(self, fake: FakeQemu) -> Client: ...


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Spawn]:
    """Start fakes with QMP, and close them at the end."""
    with contextlib.ExitStack() as stack:

        def start(**knobs: object) -> FakeQemu:
            directory = tmp_path / f"fake-{len(list(tmp_path.iterdir()))}"
            fake = spawn(Knobs.from_values({"qmp": True, **knobs}), directory)
            stack.callback(fake.close)
            return fake

        yield start


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connect to a fake's QMP socket; every client hangs up at the end."""
    with contextlib.ExitStack() as stack:

        def client(fake: FakeQemu) -> Client:
            assert fake.qmp is not None
            connected = Client(fake.qmp)
            stack.callback(connected.socket.close)
            return connected

        yield client


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline, f"waited {WITHIN:g} s for {what}"
        time.sleep(0.002)  # between two looks at a file


def events(fake: FakeQemu) -> list[str]:
    return [entry.event for entry in fake.journal.entries()]


def request(fake: FakeQemu) -> Entry:
    """What the VM took as the request to stop."""
    (found,) = [entry for entry in fake.journal.entries() if entry.event in ("qmp", "signal")]
    return found


NOT_YET = error("CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'")


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b'{"execute":"query-status"}', NOT_YET),
        (b'{"execute":"nope"}', NOT_YET),
        (b'{"execute":"quit","id":7}', '{"id": 7, ' + NOT_YET.removeprefix("{")),
        (
            b'{"execute":"qmp_capabilities","arguments":{"enable":["nope"]}}',
            error("GenericError", "Parameter 'null' does not accept value 'nope'"),
        ),
        (
            b'{"execute":"qmp_capabilities","arguments":{"enable":"x"}}',
            error("GenericError", "Invalid parameter type for 'enable', expected: array"),
        ),
        (
            b'{"exec-oob":"query-status"}',
            error("GenericError", "QMP input member 'exec-oob' is unexpected"),
        ),
    ],
)
def test_before_the_negotiation(fake: Spawn, connect: Connect, sent: bytes, answer: str) -> None:
    client = connect(fake())
    assert client.line() == GREETING
    client.send(sent)
    assert client.line() == answer
    client.send(b'{"execute":"qmp_capabilities","arguments":{"enable":["oob"]},"id":"x"}')
    assert client.line() == '{"return": {}, "id": "x"}'
    assert client.ask("qmp_capabilities") == error(
        "CommandNotFound", "Capabilities negotiation is already complete, command ignored"
    )
    assert client.ask("query-status") == (
        '{"return": {"status": "running", "singlestep": false, "running": true}}'
    )


EXCHANGES = {
    b'{"execute":"query-status","id":"a"}': (
        '{"return": {"status": "running", "singlestep": false, "running": true}, "id": "a"}'
    ),
    b"{'execute':'query-version','id':{'a':[1,2.5,null,true]}}": (
        '{"return": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": '
        '"Debian 1:7.2+dfsg-7+deb12u18+b3"}, "id": {"a": [1, 2.5, null, true]}}'
    ),
    b'{"execute":"nope"}': error("CommandNotFound", "The command nope has not been found"),
    b'{"execute":"nope","id":3}': (
        '{"id": 3, "error": {"class": "CommandNotFound", "desc": "The command nope has not been '
        'found"}}'
    ),
    b'{"exec-oob":"query-status","id":4}': (
        '{"id": 4, "error": {"class": "GenericError", "desc": "The command query-status does not '
        'support OOB"}}'
    ),
    b'{"exec-oob":"nope"}': error("CommandNotFound", "The command nope has not been found"),
    b'{"execute":"query-status","exec-oob":"x"}': error(
        "GenericError", "QMP input member 'exec-oob' is unexpected"
    ),
    b'{"execute":"stop","arguments":{"x":1}}': error("GenericError", "Parameter 'x' is unexpected"),
    b'{"execute":"stop","arguments":[]}': error(
        "GenericError", "QMP input member 'arguments' must be an object"
    ),
    b'{"execute":"quit","foo":1,"id":2}': (
        '{"id": 2, "error": {"class": "GenericError", "desc": "QMP input member \'foo\' is '
        'unexpected"}}'
    ),
    b'{"execute":3}': error("GenericError", "QMP input member 'execute' must be a string"),
    b"{}": error("GenericError", "QMP input lacks member 'execute'"),
    b"[]": error("GenericError", "QMP input must be a JSON object"),
    b"quit\n": error("GenericError", "JSON parse error, invalid keyword 'quit'"),
    b'{"execute":}': error("GenericError", "JSON parse error, expecting value"),
    b'{"execute":"cont"}': DONE,
    b'{"execute":"query-kvm"}': '{"return": {"enabled": false, "present": true}}',
    b'{"execute":"query-uuid"}': '{"return": {"UUID": "00000000-0000-0000-0000-000000000000"}}',
    b'{"execute":"query-name"}': DONE,
    b'{"execute":"query-target"}': '{"return": {"arch": "x86_64"}}',
    b'{"execute":"system_wakeup"}': error(
        "GenericError", "Unable to wake up: guest is not in suspended state"
    ),
    b'{"execute":"human-monitor-command","arguments":{}}': error(
        "GenericError", "Parameter 'command-line' is missing"
    ),
    b'{"execute":"human-monitor-command","arguments":{"command-line":3}}': error(
        "GenericError", "Invalid parameter type for 'command-line', expected: string"
    ),
    b'{"execute":"human-monitor-command","arguments":{"command-line":"info status"}}': (
        '{"return": "VM status: running\\r\\n"}'
    ),
    b'{"execute":"human-monitor-command","arguments":{"command-line":"info version"}}': (
        '{"return": "7.2.22Debian 1:7.2+dfsg-7+deb12u18+b3\\r\\n"}'
    ),
    b'{"execute":"human-monitor-command","arguments":{"command-line":"foo bar"}}': (
        '{"return": "unknown command: \'foo\'\\r\\n"}'
    ),
    b'{"execute":"human-monitor-command","arguments":{"command-line":""}}': '{"return": ""}',
}


def test_what_is_asked_is_answered_as_qemu_does(fake: Spawn, connect: Connect) -> None:
    client = connect(fake())
    assert client.line() == GREETING
    client.send(b'{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}')
    assert client.line() == DONE
    answers = {}
    for sent in EXCHANGES:
        client.send(sent)
        answers[sent] = client.line()
    assert answers == EXCHANGES
    # all at once, and one by one byte
    client.send(b"".join(EXCHANGES))
    assert client.lines(len(EXCHANGES)) == list(EXCHANGES.values())
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    for byte in b"".join(EXCHANGES):
        client.send(bytes([byte]))
    assert client.lines(len(EXCHANGES)) == list(EXCHANGES.values())


def test_what_may_be_nested_is_answered(fake: Spawn, connect: Connect) -> None:
    client = connect(fake()).negotiate()
    deepest = "[" * 1023 + "]" * 1023
    client.send(f'{{"execute":"query-name","id":{deepest}}}[{deepest}][[{deepest}]]'.encode())
    assert client.lines(3) == [
        f'{{"return": {{}}, "id": {deepest}}}',
        error("GenericError", "QMP input must be a JSON object"),
        error("GenericError", "JSON nesting depth limit exceeded"),
    ]


def test_query_block_has_the_disk(fake: Spawn, connect: Connect) -> None:
    machine = fake(blocks=16)
    image = machine.dir / "disk"
    answer = connect(machine).negotiate().ask("query-block")
    size = image.stat()
    assert answer == (
        '{"return": [{"io-status": "ok", "device": "virtio0", "locked": false, "removable": false,'
        ' "inserted": {"iops_rd": 0, "detect_zeroes": "off", "image": {"virtual-size": '
        f'{size.st_size}, "filename": "{image}", "format": "raw", "actual-size": '
        f'{size.st_blocks * 512}, "dirty-flag": false}}, "iops_wr": 0, "ro": false, "node-name": '
        '"#block120", "backing_file_depth": 0, "drv": "raw", "iops": 0, "bps_wr": 0, '
        '"write_threshold": 0, "encrypted": false, "bps": 0, "bps_rd": 0, "cache": {"no-flush": '
        f'false, "direct": false, "writeback": true}}, "file": "{image}"}}, "qdev": '
        '"/machine/peripheral-anon/device[0]/virtio-backend", "type": "unknown"}]}'
    )


def test_every_command_that_is_listed_is_one(fake: Spawn, connect: Connect) -> None:
    client = connect(fake()).negotiate()
    listed = [each["name"] for each in json.loads(client.ask("query-commands"))["return"]]
    assert {"quit", "query-block", "human-monitor-command", "qmp_capabilities"} < set(listed)
    for name in listed:
        client.send(b'{"execute": "%s", "arguments": {"no-such": 1}}' % name.encode())
        assert '"class": "CommandNotFound"' not in client.line() or name == "qmp_capabilities"


def test_events_of_stop_cont_and_reset_precede_the_answers(fake: Spawn, connect: Connect) -> None:
    client = connect(fake()).negotiate()
    before = time.time()
    client.send(b'{"execute":"stop","id":1}{"execute":"stop"}{"execute":"query-status"}')
    assert client.lines(4) == [
        event("STOP"),
        '{"return": {}, "id": 1}',
        DONE,
        '{"return": {"status": "paused", "singlestep": false, "running": false}}',
    ]
    client.send(b'{"execute":"cont","id":2}{"execute":"cont"}{"execute":"system_reset","id":3}')
    assert client.lines(5) == [
        event("RESUME"),
        '{"return": {}, "id": 2}',
        DONE,
        RESET,
        '{"return": {}, "id": 3}',
    ]
    assert before - 1 <= client.stamps[0] <= client.stamps[-1] <= time.time() + 1
    assert client.stamps == sorted(client.stamps)


def test_a_stopped_guest_writes_nothing_until_it_goes_on(fake: Spawn, connect: Connect) -> None:
    machine = fake(guest="writing")
    client = connect(machine).negotiate()
    assert client.ask("stop") == event("STOP")
    assert client.line() == DONE
    written = events(machine).count("ack")
    deadline = time.monotonic() + 0.1  # of fifty writes, were it not stopped
    while time.monotonic() < deadline:
        assert '"status": "paused"' in client.ask("query-status")
    assert events(machine).count("ack") == written
    assert client.ask("cont") == event("RESUME")
    assert client.line() == DONE
    until(lambda: events(machine).count("ack") > written, "the guest's next write")


def flushes(fake: FakeQemu) -> list[tuple[object, object]]:
    """Each flush that has begun: why, and how many blocks it writes."""
    return [
        (entry.fields["reason"], entry.fields["blocks"])
        for entry in fake.journal.entries()
        if entry.event == "flush_begin"
    ]


def kill(fake: FakeQemu) -> None:
    os.kill(fake.pid, signal.SIGKILL)
    assert fake.wait(WITHIN).signal == signal.SIGKILL


def test_stop_is_answered_when_everything_is_flushed(fake: Spawn, connect: Connect) -> None:
    machine = fake(flush_time=0.2)
    client = connect(machine).negotiate()
    assert client.ask("stop") == event("STOP")
    assert client.line() == DONE
    assert events(machine)[-1] == "flush_end"
    assert not {"qmp", "signal"} & set(events(machine))
    assert client.ask("stop") == DONE
    assert flushes(machine) == [("stop", 64), ("stop", 0)]
    kill(machine)
    assert machine.disk.audit().ok


def test_stop_is_not_answered_while_the_flush_goes_on(fake: Spawn, connect: Connect) -> None:
    machine = fake(flush_profile="never")
    client = connect(machine).negotiate()
    assert client.ask("stop") == event("STOP")
    os.kill(machine.pid, signal.SIGTERM)
    until(lambda: "signal" in events(machine), "the signal")
    assert flushes(machine) == [("stop", 64)]
    kill(machine)
    assert client.rest() == []
    assert machine.disk.audit().lost == list(range(64))


def test_a_signal_in_the_flush_of_stop_ends_the_vm_when_it_is_done(
    fake: Spawn, connect: Connect
) -> None:
    machine = fake(flush_time=0.4, blocks=8, on_second_term="abort")
    client = connect(machine).negotiate()
    assert client.ask("stop") == event("STOP")
    until(lambda: "block" in events(machine), "the flush")
    os.kill(machine.pid, signal.SIGTERM)
    client.send(b'{"execute":"query-status"}')
    assert client.rest() == [SHUT_DOWN["host-signal"], DONE]
    assert machine.wait(WITHIN).code == 0
    seen = events(machine)
    assert seen.index("signal") < seen.index("flush_end")
    assert flushes(machine) == [("stop", 8), ("exit", 0)]
    assert machine.disk.audit().ok
    assert machine.stderr.count("terminating on signal 15") == 1


def test_a_second_signal_in_the_flush_of_stop_does_what_the_knob_says(
    fake: Spawn, connect: Connect
) -> None:
    machine = fake(flush_profile="never", on_second_term="abort")
    client = connect(machine).negotiate()
    assert client.ask("stop") == event("STOP")
    for count in (1, 2):
        os.kill(machine.pid, signal.SIGTERM)
        until(lambda count=count: events(machine).count("signal") == count, "the signal")  # type: ignore[misc]
    assert machine.wait(WITHIN).code == 1


def test_stop_is_answered_by_a_vm_that_ignores_the_signal(fake: Spawn, connect: Connect) -> None:
    machine = fake(flush_time=0.3, blocks=4, on_term="ignore")
    client = connect(machine).negotiate()
    assert client.ask("stop") == event("STOP")
    os.kill(machine.pid, signal.SIGTERM)
    assert client.line() == DONE
    assert '"paused"' in client.ask("query-status")


def test_a_guest_that_goes_on_writes_what_can_be_lost(fake: Spawn, connect: Connect) -> None:
    machine = fake(flush_time=0.05, guest="writing", blocks=4)
    client = connect(machine).negotiate()
    assert [client.ask("stop"), client.line()] == [event("STOP"), DONE]
    assert machine.disk.audit().ok
    written = events(machine).count("ack")
    assert [client.ask("cont"), client.line()] == [event("RESUME"), DONE]
    until(lambda: events(machine).count("ack") >= written + 4, "four more writes")
    kill(machine)
    assert machine.disk.audit().stale == [0, 1, 2, 3]


def test_a_crash_comes_also_when_stop_has_flushed_everything(fake: Spawn, connect: Connect) -> None:
    machine = fake(flush_time=0.05, on_term=Crash(at=5, exit=3))
    client = connect(machine).negotiate()
    assert [client.ask("stop"), client.line()] == [event("STOP"), DONE]
    assert machine.alive
    os.kill(machine.pid, signal.SIGTERM)
    assert machine.wait(WITHIN).code == 3
    assert machine.disk.audit().ok


def test_set_action_leaves_a_halted_vm_flushed(fake: Spawn, connect: Connect) -> None:
    machine = fake(flush_time=0.1)
    client = connect(machine).negotiate()
    client.send(
        b'{"execute":"set-action","arguments":{"reboot":"shutdown","shutdown":"pause"}}'
        b'{"execute":"system_reset"}'
    )
    reset = event("SHUTDOWN", '{"guest": false, "reason": "host-qmp-system-reset"}')
    assert client.lines(4) == [DONE, reset, event("STOP"), DONE]
    assert flushes(machine) == [("poweroff", 64)]
    kill(machine)
    assert machine.disk.audit().ok


def test_quit_is_announced_before_the_flush_and_answered_after_it(
    fake: Spawn, connect: Connect
) -> None:
    machine = fake(flush_time=0.3, linger=60)
    client = connect(machine).negotiate()
    client.send(QUIT)
    assert client.line() == SHUT_DOWN["host-qmp-quit"]
    client.send(b'{"execute":"query-status"}')  # to a VM that has no ear for it
    assert client.rest() == ['{"return": {}, "id": "q"}']
    # the client knows of the end before the process has ended
    assert machine.alive
    seen = events(machine)
    assert dict(request(machine).fields) == {"command": "quit"}
    assert seen.index("qmp") < seen.index("flush_begin") < seen.index("flush_end")
    assert "exit" not in seen
    assert machine.disk.audit().ok
    assert machine.stderr == ""


def test_nothing_is_answered_while_the_flush_goes_on(fake: Spawn, connect: Connect) -> None:
    machine = fake(flush_profile="never")
    client = connect(machine).negotiate()
    client.send(QUIT)
    assert client.line() == SHUT_DOWN["host-qmp-quit"]
    client.send(QUIT + b'{"execute":"query-status"}')
    late = connect(machine)  # the kernel takes it in, and nobody greets it
    until(lambda: "flush_begin" in events(machine), "the begin of the flush")
    os.kill(machine.pid, signal.SIGKILL)
    # a killed process leaves what it has not read: that is a reset, not an end of file
    with pytest.raises(ConnectionResetError):
        client.line()
    with pytest.raises(ConnectionResetError):
        late.line()
    assert dict(request(machine).fields) == {"command": "quit"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_announced_too_and_there_is_nothing_to_answer(
    fake: Spawn, connect: Connect, number: signal.Signals
) -> None:
    machine = fake(flush_time=0.1)
    client = connect(machine).negotiate()
    os.kill(machine.pid, number)
    assert client.rest() == [SHUT_DOWN["host-signal"]]
    assert machine.wait(WITHIN).code == 0
    assert f"terminating on signal {int(number)} from pid {os.getpid()}" in machine.stderr


def test_who_has_not_negotiated_hears_of_nothing_but_the_end(fake: Spawn, connect: Connect) -> None:
    machine = fake(flush_time=0)
    client = connect(machine)
    assert client.line() == GREETING
    os.kill(machine.pid, signal.SIGTERM)
    assert client.rest() == []
    assert machine.wait(WITHIN).code == 0


def test_the_power_button_lets_the_guest_power_off(fake: Spawn, connect: Connect) -> None:
    machine = fake(flush_time=0.1)
    client = connect(machine).negotiate()
    client.send(b'{"execute":"system_powerdown","id":5}')
    assert client.rest() == [
        event("POWERDOWN"),
        '{"return": {}, "id": 5}',
        SHUT_DOWN["guest-shutdown"],
    ]
    assert machine.wait(WITHIN).code == 0
    assert dict(request(machine).fields) == {"command": "system_powerdown"}
    assert machine.disk.audit().ok


def test_a_stopped_guest_heeds_the_power_button_when_it_goes_on(
    fake: Spawn, connect: Connect
) -> None:
    machine = fake(flush_time=0)
    client = connect(machine).negotiate()
    client.send(b'{"execute":"stop"}{"execute":"system_powerdown"}{"execute":"query-status"}')
    assert client.lines(5)[2:] == [
        event("POWERDOWN"),
        DONE,
        '{"return": {"status": "paused", "singlestep": false, "running": false}}',
    ]
    assert "qmp" not in events(machine)
    client.send(b'{"execute":"cont"}')
    assert client.rest() == [event("RESUME"), DONE, SHUT_DOWN["guest-shutdown"]]
    assert machine.wait(WITHIN).code == 0


def test_the_journal_says_whether_the_guest_sees_the_button(fake: Spawn, connect: Connect) -> None:
    machine = fake(flush_time=0)
    client = connect(machine).negotiate()
    client.send(b'{"execute":"stop"}{"execute":"system_powerdown"}')
    assert client.lines(4)[2:] == [event("POWERDOWN"), DONE]
    pressed = machine.journal.last("powerdown")
    assert pressed is not None
    assert dict(pressed.fields) == {"heard": False, "status": "paused"}
    client.send(b'{"execute":"system_reset"}{"execute":"cont"}')
    client.rest()
    assert dict(request(machine).fields) == {"command": "system_powerdown"}
    other = fake(flush_time=0)
    connect(other).negotiate().send(b'{"execute":"system_powerdown"}')
    assert other.wait(WITHIN).code == 0
    pressed = other.journal.last("powerdown")
    assert pressed is not None
    assert dict(pressed.fields) == {"heard": True, "status": "running"}


def rejected(fake: FakeQemu) -> list[dict[str, object]]:
    return [dict(entry.fields) for entry in fake.journal.entries() if entry.event == "qmp_error"]


REJECTIONS = {
    b"quit\n": ("quit\\n", "JSON parse error, invalid keyword 'quit'", "GenericError"),
    b'\x1b[2J"\n': (
        '\\x1b[2J"\\n',
        "JSON parse error, stray '\\x1b'",
        "GenericError",
    ),
    b'{"execute": "nope"}': (
        '{"execute": "nope"}',
        "The command nope has not been found",
        "CommandNotFound",
    ),
    b'{"execute":"human-monitor-command","arguments":{"command-line":"powerdown"}}': (
        "powerdown",
        "unknown command: 'powerdown'",
        "HumanMonitor",
    ),
}


@pytest.mark.parametrize("sent", list(REJECTIONS))
def test_what_the_monitor_rejects_is_journalled(fake: Spawn, connect: Connect, sent: bytes) -> None:
    machine = fake()
    client = connect(machine).negotiate()
    client.send(sent)
    client.line()
    first, *_ = rejected(machine)
    assert (first["said"], first["error"], first["error_class"]) == REJECTIONS[sent]
    assert not {"qmp", "signal"} & set(events(machine))


def test_a_command_before_the_negotiation_is_journalled(fake: Spawn, connect: Connect) -> None:
    machine = fake()
    client = connect(machine)
    assert client.line() == GREETING
    client.send(b'{"execute":"quit"}')
    assert client.line() == NOT_YET
    said = "Expecting capabilities negotiation with 'qmp_capabilities'"
    assert rejected(machine) == [
        {"said": '{"execute": "quit"}', "error": said, "error_class": "CommandNotFound"}
    ]


def test_what_is_long_is_journalled_in_short(fake: Spawn, connect: Connect) -> None:
    machine = fake()
    client = connect(machine).negotiate()
    client.send(b'{"execute": "' + b"x" * 5000 + b'"}')
    assert "has not been found" in client.line()
    (entry,) = rejected(machine)
    assert entry["said"] == '{"execute": "' + "x" * 187 + "..."


@pytest.mark.parametrize(
    ("line", "answered"),
    [("quit", True), ("q", True), ("system_powerdown", False)],
)
def test_the_words_of_the_other_monitor_end_it_too(
    fake: Spawn, connect: Connect, line: str, *, answered: bool
) -> None:
    machine = fake(flush_time=0)
    client = connect(machine).negotiate()
    command = {"execute": "human-monitor-command", "arguments": {"command-line": line}}
    client.send(json.dumps(command).encode())
    heard = client.rest()
    assert '{"return": ""}' in heard
    assert (heard[-1] == '{"return": ""}') is answered
    assert machine.wait(WITHIN).code == 0


def test_ignored_requests_are_not_answered_and_the_others_are(
    fake: Spawn, connect: Connect
) -> None:
    machine = fake(on_term="ignore")
    client = connect(machine).negotiate()
    client.send(QUIT + b'{"execute":"query-name","id":1}')
    assert client.line() == '{"return": {}, "id": 1}'
    assert dict(request(machine).fields) == {"command": "quit"}
    assert client.ask("system_powerdown") == event("POWERDOWN")
    assert client.line() == DONE
    assert '"running"' in client.ask("query-status")


def test_a_vm_that_refuses_says_so_to_the_client(fake: Spawn, connect: Connect) -> None:
    machine = fake(on_term="refuse")
    client = connect(machine).negotiate()
    client.send(QUIT)
    assert client.line() == (
        '{"id": "q", "error": {"class": "GenericError", "desc": "the guest is busy"}}'
    )
    assert "refusing to terminate on quit: the guest is busy" in machine.stderr
    assert '"running"' in client.ask("query-status")


def test_quit_without_a_flush(fake: Spawn, connect: Connect) -> None:
    machine = fake(on_term="exit", exit_status=3)
    client = connect(machine).negotiate()
    client.send(QUIT)
    assert client.rest() == [SHUT_DOWN["host-qmp-quit"], '{"return": {}, "id": "q"}']
    assert machine.wait(WITHIN).code == 3
    assert len(machine.disk.audit().lost) == 64


def test_a_crash_in_the_flush_is_the_end_of_the_connection(fake: Spawn, connect: Connect) -> None:
    machine = fake(on_term=Crash(at=3, exit=1), flush_time=0)
    client = connect(machine).negotiate()
    client.send(QUIT)
    assert client.rest() == [SHUT_DOWN["host-qmp-quit"]]
    assert machine.wait(WITHIN).code == 1


def test_a_signal_after_quit_is_the_second_request(fake: Spawn, connect: Connect) -> None:
    machine = fake(on_second_term="abort", flush_profile="never")
    client = connect(machine).negotiate()
    client.send(QUIT)
    assert client.line() == SHUT_DOWN["host-qmp-quit"]
    os.kill(machine.pid, signal.SIGTERM)
    assert machine.wait(WITHIN).code == 1


def test_one_client_at_a_time_and_each_starts_anew(fake: Spawn, connect: Connect) -> None:
    machine = fake(flush_time=0)
    first, second = connect(machine).negotiate(), connect(machine)
    first.send(b'{"execute":"stop"}')
    assert first.lines(2) == [event("STOP"), DONE]
    assert not select.select([second.socket], [], [], 0.05)[0]
    first.send(b'{"execute": "query-st')  # never finished
    first.socket.close()
    assert second.line() == GREETING
    assert second.ask("query-status") == NOT_YET
    second.send(NEGOTIATE)
    assert second.line() == DONE
    assert '"paused"' in second.ask("query-status")  # the VM is the same


def test_a_client_that_hangs_up_or_does_not_read_hurts_nobody(
    fake: Spawn, connect: Connect
) -> None:
    machine = fake(flush_time=0)
    for sent in (b"", NEGOTIATE, b'{"execute":', b"\xff" * 99):
        gone = connect(machine)
        gone.send(sent)
        gone.socket.close()
    lazy = connect(machine)
    lazy.send(NEGOTIATE)
    lazy.socket.settimeout(0.5)
    # far more than both sides keep for it: the VM stops reading, and goes on living
    with pytest.raises(TimeoutError):
        lazy.send(b'{"execute":"query-block"}' * MOST_UNREAD)
    os.kill(machine.pid, signal.SIGTERM)
    assert machine.wait(WITHIN).code == 0
    assert machine.disk.audit().ok


def test_nothing_more_is_read_of_a_client_that_does_not_read() -> None:
    ours, theirs = socket.socketpair()
    fd = theirs.fileno()
    line = Line(Chardev("monitor", "socket", "-chardev socket,id=monitor"))
    line._connect(theirs)
    with ours:
        assert line.interest() == [(fd, select.POLLIN)]
        line.send(b"x" * (MOST_UNREAD // 2))
        assert line.interest() == [(fd, select.POLLIN | select.POLLOUT)]
        line.send(b"x" * 2 * MOST_UNREAD)
        assert line.interest() == [(fd, select.POLLOUT)]
        left = MOST_UNREAD // 2 + 2 * MOST_UNREAD
        while left:
            left -= len(ours.recv(left))
            line.attend(fd, select.POLLOUT)
        assert line.interest() == [(fd, select.POLLIN)]
    line.hang_up()


def test_who_asks_to_quit_and_goes_gets_a_clean_end(fake: Spawn, connect: Connect) -> None:
    machine = fake(flush_time=0.1)
    client = connect(machine).negotiate()
    client.send(QUIT)
    client.socket.close()
    assert machine.wait(WITHIN).code == 0
    assert machine.disk.audit().ok


def test_the_socket_goes_with_a_clean_end_and_stays_behind_a_killed_vm(fake: Spawn) -> None:
    clean, killed = fake(flush_time=0), fake()
    assert clean.qmp is not None
    assert killed.qmp is not None
    os.kill(clean.pid, signal.SIGTERM)
    os.kill(killed.pid, signal.SIGKILL)
    clean.wait(WITHIN)
    killed.wait(WITHIN)
    assert not Path(clean.qmp).exists()
    assert Path(killed.qmp).exists()


def test_nobody_is_greeted_before_the_handlers_are_in(fake: Spawn, connect: Connect) -> None:
    machine = fake(ready_after=0.3)
    client = connect(machine)
    assert client.line() == GREETING
    assert "handlers" in events(machine)


@pytest.mark.parametrize(
    "topology", ["child", "reaped", "zombie", "daemon", "wrapped", "leaderless"]
)
def test_every_topology_has_it(fake: Spawn, connect: Connect, topology: str) -> None:
    machine = fake(flush_time=0.05, topology=topology, reaper_delay=0)
    client = connect(machine).negotiate()
    client.send(QUIT)
    assert client.rest() == [SHUT_DOWN["host-qmp-quit"], '{"return": {}, "id": "q"}']
    assert machine.wait(WITHIN).code == 0
    assert machine.disk.audit().ok


def test_helpers_do_not_hold_the_connection(fake: Spawn, connect: Connect) -> None:
    machine = fake(helpers=2, helper={"session", "ignores_term"})
    client = connect(machine).negotiate()
    os.kill(machine.pid, signal.SIGKILL)
    assert client.rest() == []
    assert len(machine.processes()) == 2


def test_a_folder_too_deep_for_a_socket_is_no_obstacle(connect: Connect, tmp_path: Path) -> None:
    machine = spawn(Knobs(qmp=True, flush_time=0), tmp_path / ("x" * 100) / "y")
    try:
        connect(machine).negotiate()
        assert machine.qmp is not None
        folder = Path(machine.qmp).parent
    finally:
        machine.close()
    assert not folder.exists()


@pytest.mark.parametrize("qmp", [False, True])
def test_nothing_of_it_is_loaded_where_nobody_asks_for_it(tmp_path: Path, *, qmp: bool) -> None:
    machine = spawn(Knobs(qmp=qmp, flush_time=0), tmp_path / "fake")
    machine.close()  # its program is there, and can be run again
    command = argv(machine.dir / "qemu-system-x86_64")
    os.mkfifo(machine.dir / "mark")
    keeper = os.open(machine.dir / "mark", os.O_RDWR)
    try:
        again = subprocess.Popen(
            [command[0], "-X", "importtime", *command[1:]], stderr=subprocess.PIPE
        )
        until(lambda: events(machine).count("handlers") == 2, "readiness")
        again.terminate()
        _, told = again.communicate(timeout=WITHIN)
    finally:
        os.close(keeper)
    loaded = {line.rpartition(b"|")[2].strip().decode() for line in told.splitlines()}
    ours = {name.removeprefix("program.") for name in loaded if name.startswith("program.")}
    assert {"boot", "machine", "stderr", "flushing"} < ours
    extra = {"control", "line", "qmp", "qmp_json", "commands", "runstate", "command_line"}
    assert (extra <= ours) is qmp
    assert bool(extra & ours) is qmp
    assert bool({"socket", "ctypes", "re", "json"} & loaded) is qmp
    assert sys.version_info >= (3, 11)
