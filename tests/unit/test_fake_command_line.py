"""QEMU's own command line on the fake's program: what is honoured, and that the rest is swallowed.

The texts are what QEMU 7.2.22 of Debian 12 printed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import termios
import time
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from pytest_gracekill.child import mark as marks
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.child.program.chardev import Unusable
from pytest_gracekill.child.program.command_line import fields, understand, words
from pytest_gracekill.child.program.line import PIECE
from pytest_gracekill.child.unstarted import Unstarted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.child.handle import FakeQemu

WITHIN = 20.0
VERSION = (
    "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\n"
    "Copyright (c) 2003-2022 Fabrice Bellard and the QEMU Project developers\n"
)
GREETING = (
    b'{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, '
    b'"package": "Debian 1:7.2+dfsg-7+deb12u18+b3"}, "capabilities": ["oob"]}}\r\n'
)
DONE = b'{"return": {}}\r\n'
NEGOTIATE = b'{"execute": "qmp_capabilities"}'
QUIT = b'{"execute": "quit"}'


class Vm:
    """A fake's program, started as a manager would start it, with options of QEMU's."""

    def __init__(self, unstarted: Unstarted, popen: subprocess.Popen[bytes], stderr: Path) -> None:
        self.unstarted = unstarted
        self.popen = popen
        self._stderr = stderr

    def ready(self) -> FakeQemu:
        return self.unstarted.ready_vm(WITHIN)

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    def says(self, text: str) -> None:
        until(lambda: text in self.stderr, f"{text!r} in {self.stderr!r}")

    def ends(self) -> int:
        return self.popen.wait(WITHIN)

    @property
    def events(self) -> list[str]:
        entries = (self.unstarted.prepared.directory / "journal").read_text().splitlines()
        return [line.split('"event": "')[1].split('"')[0] for line in entries]


class Start(Protocol):
    def __call__(
        self, *options: str, knobs: Knobs = ..., fds: tuple[int, ...] = ..., stdin: int = ...
    ) -> Vm: ...


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a fake in `tmp_path` by its program, with words; all of it ends with the test."""
    with contextlib.ExitStack() as stack:

        def run(
            *options: str,
            knobs: Knobs = Knobs(flush_time=0.05),  # noqa: B008 - frozen
            fds: tuple[int, ...] = (),
            stdin: int = subprocess.DEVNULL,
        ) -> Vm:
            number = len(list(tmp_path.glob("fake*")))
            unstarted = Unstarted(knobs, tmp_path / f"fake{number}")
            stack.callback(unstarted.close)
            stderr = tmp_path / f"stderr{number}"
            with stderr.open("wb") as written:
                popen = subprocess.Popen(
                    [unstarted.child.program, *" ".join(options).split()],
                    cwd=tmp_path,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=written,
                    pass_fds=fds,
                )
            stack.enter_context(popen)
            stack.callback(popen.kill)
            return Vm(unstarted, popen, stderr)

        yield run


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[[str], socket.socket]]:
    """Connect to a socket in `tmp_path`, as soon as it is there."""
    with contextlib.ExitStack() as stack:

        def client(name: str) -> socket.socket:
            made = stack.enter_context(socket.socket(socket.AF_UNIX))
            until((tmp_path / name).exists, f"the socket {name}")
            until(lambda: made.connect_ex(str(tmp_path / name)) == 0, f"a listener at {name}")
            made.settimeout(WITHIN)
            return made

        yield client


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline, f"waited {WITHIN:g} s for {what}"
        time.sleep(0.002)  # between two looks at a file


def receive(sock: socket.socket, count: int) -> bytes:
    """So many lines; fewer before the end of file."""
    received = b""
    while received.count(b"\n") < count and (piece := sock.recv(4096)):
        received += piece
    return received


def quits(sock: socket.socket) -> None:
    """Be greeted, negotiate and quit."""
    assert receive(sock, 1) == GREETING
    sock.sendall(NEGOTIATE + QUIT)
    first, announced, last = receive(sock, 3).splitlines(keepends=True)
    assert first == last == DONE
    assert b'"event": "SHUTDOWN", "data": {"guest": false, "reason": "host-qmp-quit"}' in announced
    assert sock.recv(1) == b""


def run(program: str, *options: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [program, *options], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


# -- how it is read


def test_options_with_one_dash_or_two_and_their_values() -> None:
    line = "-m 512 --qmp stdio -S disk.img -nographic -append -S -unknown -x 5 -name -qmp"
    assert words(line.split()) == [
        ("m", "512"),
        ("qmp", "stdio"),
        ("S", ""),
        ("nographic", ""),
        ("append", "-S"),
        ("unknown", ""),
        ("x", "5"),
        ("name", "-qmp"),
    ]


def test_fields_of_a_value() -> None:
    assert fields("socket,id=a,path=/x,,y,server,nowait", "backend") == {
        "backend": "socket",
        "id": "a",
        "path": "/x,y",
        "server": "on",
        "wait": "off",
    }
    assert fields("chardev=m,mode=control", "chardev") == {"chardev": "m", "mode": "control"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("-qmp", "-qmp: requires an argument"),
        (
            "-qmp nope:1",
            (
                "-qmp nope:1: 'nope:1' is not a valid char driver\n"
                "qemu-system-x86_64: -qmp nope:1: parse error: nope:1"
            ),
        ),
        ("-chardev socket,path=/x", "-chardev socket,path=/x: chardev: no id specified"),
        ("-chardev socket,id=x", "-chardev socket,id=x: Unable to parse FD number "),
        ("-chardev socket,id=c,fd=zz", "-chardev socket,id=c,fd=zz: Unable to parse FD number zz"),
        (
            "-chardev stdio,id=x -mon x,mode=control -mon x,mode=control",
            "-mon x,mode=control: Device 'x' is in use",
        ),
        (
            "-chardev null,id=a -chardev null,id=a",
            "-chardev null,id=a: Duplicate ID 'a' for chardev",
        ),
        ("-mon nope,mode=control", '-mon nope,mode=control: chardev "nope" not found'),
        ("-mon mode=control", "-mon mode=control: Parameter 'chardev' is missing"),
        (
            "-chardev stdio,id=x -mon x,mode=foo",
            "-mon x,mode=foo: Parameter 'mode' does not accept value 'foo'",
        ),
        (
            "-chardev socket,id=c,path=/x,server=maybe",
            "-chardev socket,id=c,path=/x,server=maybe: Parameter 'server' expects 'on' or 'off'",
        ),
        (
            "-chardev socket,id=c,path=/x,wait=on",
            (
                "-chardev socket,id=c,path=/x,wait=on: 'wait' option is incompatible with socket "
                "in client connect mode"
            ),
        ),
        ("-daemonize -qmp stdio", "-qmp stdio: cannot use stdio with -daemonize"),
        (
            "-chardev stdio,id=x -qmp stdio",
            "-qmp stdio: cannot use stdio by multiple character devices",
        ),
        (
            "-serial stdio -qmp stdio",
            (
                "-serial stdio: cannot use stdio by multiple character devices\n"
                "qemu-system-x86_64: -serial stdio:"
                " could not connect serial device to character backend 'stdio'"
            ),
        ),
        (
            f"-qmp unix:/{'x' * 107},server,nowait",
            (
                f"-qmp unix:/{'x' * 107},server,nowait: UNIX socket path '/{'x' * 107}' is too "
                "long\nPath must be less than 108 bytes"
            ),
        ),
    ],
)
def test_what_qemu_refuses_is_refused_in_its_words(options: str, text: str) -> None:
    with pytest.raises(Unusable) as refused:
        understand(options.split())
    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ("-no-shutdown", (True, False)),
        ("-no-reboot", (False, True)),
        ("-action shutdown=pause,reboot=shutdown", (True, True)),
        ("-action shutdown=poweroff", (False, False)),
    ],
)
def test_what_the_end_of_the_guest_is_to_mean(options: str, seen: tuple[bool, bool]) -> None:
    options_seen = understand(options.split())
    assert (options_seen.no_shutdown, options_seen.no_reboot) == seen


# -- questions


def test_questions_are_answered_and_nothing_starts(start: Start, tmp_path: Path) -> None:
    unstarted = Unstarted(Knobs(), tmp_path / "asked")
    program = unstarted.child.program
    try:
        for option in ("-version", "--version"):
            assert run(program, option) == (0, VERSION, "")
        assert run(program, "-m", "64", "-version", "-S") == (0, VERSION, "")
        for option in ("-h", "-help", "--help"):
            code, out, err = run(program, option)
            assert (code, err) == (0, "")
            assert out.startswith(VERSION + "usage: qemu-system-x86_64 [options] [disk_image]\n")
        for option, value in (("-machine", "help"), ("-M", "help"), ("-cpu", "help")):
            code, out, err = run(program, option, value)
            assert (code, err) == (0, "")
            assert "q35" in out or "Available CPUs" in out
        refused = "qemu-system-x86_64: -qmp: requires an argument\n"
        assert run(program, "-version", "-qmp") == (1, "", refused)
        assert unstarted.starts == []
        assert (tmp_path / "asked" / "journal").read_bytes() == b""
    finally:
        unstarted.close()
    # the same program starts, whatever else it is told
    vm = start("-name guest=a -m 64 -nodefaults -blockdev driver=null-co,node-name=-S")
    vm.ready()


def test_a_reader_that_has_gone_does_not_hurt(tmp_path: Path) -> None:
    unstarted = Unstarted(Knobs(), tmp_path / "asked")
    try:
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [unstarted.child.program, "-help"], stdout=writing, stderr=subprocess.PIPE, timeout=60,
            check=False,
        )  # fmt: skip
        os.close(writing)
        assert (done.returncode, done.stderr) == (0, b"")
    finally:
        unstarted.close()


# -- monitors


@pytest.mark.parametrize(
    "options",
    [
        "-qmp unix:q,server=on,wait=off",
        "--qmp unix:q,server,nowait",
        "-chardev socket,id=m,path=q,server=on,wait=off -mon chardev=m,mode=control",
        "-mon m,mode=control -chardev socket,id=m,path=q,server,nowait",
        "-chardev socket,id=m,path=q,server=on,wait=off -qmp chardev:m",
    ],
)
def test_a_listening_socket(
    start: Start, connect: Callable[[str], socket.socket], tmp_path: Path, options: str
) -> None:
    vm = start(options)
    vm.ready()
    quits(connect("q"))
    assert vm.ends() == 0
    assert not (tmp_path / "q").exists()
    assert vm.stderr == ""


def test_wait_on_waits_before_readiness(
    start: Start, connect: Callable[[str], socket.socket]
) -> None:
    vm = start("-qmp unix:q,server=on")
    vm.says(
        "qemu-system-x86_64: -qmp unix:q,server=on: info: QEMU waiting for connection on: "
        "disconnected:unix:q,server=on\n"
    )
    assert vm.events[-1] == "pid_file"
    client = connect("q")
    vm.ready()
    quits(client)
    assert vm.ends() == 0


def test_a_signal_to_one_that_waits_has_its_default_effect(start: Start) -> None:
    vm = start("-qmp unix:q,server=on")
    vm.says("waiting for connection")
    vm.popen.terminate()
    assert vm.ends() == -signal.SIGTERM


def test_the_vm_connects_itself(start: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "q"))
        listener.listen(1)
        listener.settimeout(WITHIN)
        vm = start("-qmp", "unix:q")
        client, _ = listener.accept()
        with client:
            client.settimeout(WITHIN)
            quits(client)
    assert vm.ends() == 0
    assert (tmp_path / "q").exists()  # not its own


def test_a_descriptor_that_was_passed(start: Start) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fd = theirs.fileno()
        vm = start(*f"-chardev socket,id=m,fd={fd} -mon chardev=m,mode=control".split(), fds=(fd,))
        theirs.close()
        ours.settimeout(WITHIN)
        quits(ours)
        assert vm.ends() == 0


def test_a_listening_descriptor_that_was_passed(
    start: Start, connect: Callable[[str], socket.socket], tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "q"))
        listener.listen(1)
        fd = listener.fileno()
        options = f"-chardev socket,id=m,fd={fd},server=on,wait=off -mon chardev=m,mode=control"
        vm = start(options, fds=(fd,))
        quits(connect("q"))
        assert vm.ends() == 0


def test_a_tcp_port(start: Start) -> None:
    vm = start("-qmp", "tcp:127.0.0.1:0,server=on")
    told = "disconnected:tcp:127.0.0.1:"
    vm.says(",server=on\n")
    port = int(vm.stderr.rpartition(told)[2].partition(",")[0])
    with socket.create_connection(("127.0.0.1", port), WITHIN) as client:
        quits(client)
    assert vm.ends() == 0


@pytest.mark.parametrize("options", ["-qmp stdio", "-chardev stdio,id=m -mon m,mode=control"])
def test_standard_input_and_output_with_nothing_else_on_it(start: Start, options: str) -> None:
    vm = start(options, stdin=subprocess.PIPE)
    assert vm.popen.stdin is not None
    assert vm.popen.stdout is not None
    assert vm.popen.stdout.readline() == GREETING
    vm.popen.stdin.write(NEGOTIATE + b'{"execute": "quit"}\n')
    vm.popen.stdin.flush()
    first, announced, last = vm.popen.stdout.read().splitlines(keepends=True)
    assert first == last == DONE
    assert b"host-qmp-quit" in announced
    assert vm.ends() == 0


def test_the_pretty_form(start: Start) -> None:
    vm = start("-qmp-pretty", "stdio", stdin=subprocess.PIPE)
    out, _ = vm.popen.communicate(NEGOTIATE + QUIT, WITHIN)
    lines = out.decode().split("\r\n")
    assert lines[:3] == ["{", '    "QMP": {', '        "version": {']
    assert lines[-5:] == ["{", '    "return": {', "    }", "}", ""]
    assert vm.ends() == 0


def test_the_end_of_standard_input_ends_nothing(start: Start) -> None:
    vm = start("-qmp", "stdio", stdin=subprocess.PIPE)
    assert vm.popen.stdin is not None
    assert vm.popen.stdout is not None
    assert vm.popen.stdout.readline() == GREETING
    vm.popen.stdin.close()
    machine = vm.ready()
    vm.popen.terminate()
    assert vm.ends() == 0
    assert machine.disk.audit().ok


def test_a_reader_of_standard_output_that_does_not_read_holds_up_nobody(start: Start) -> None:
    vm = start("-qmp stdio", stdin=subprocess.PIPE)
    machine = vm.ready()
    assert vm.popen.stdin is not None
    vm.popen.stdin.write(NEGOTIATE + b'{"execute": "query-block"}' * 500)  # more than a pipe takes
    vm.popen.stdin.flush()
    assert vm.popen.stdout is not None
    pipe = vm.popen.stdout.fileno()

    def full() -> bool:
        unread = array("i", [0])
        fcntl.ioctl(pipe, termios.FIONREAD, unread)
        return unread[0] > 8 * PIECE

    until(full, "a pipe that fills")
    vm.popen.terminate()
    assert vm.ends() == 0
    assert machine.disk.audit().ok


def test_two_monitors_hear_the_same_events(
    start: Start, connect: Callable[[str], socket.socket]
) -> None:
    vm = start("-qmp unix:a,server,nowait -qmp unix:b,server,nowait")
    vm.ready()
    one, other = connect("a"), connect("b")
    for client in (one, other):
        client.sendall(NEGOTIATE)
        assert receive(client, 2) == GREETING + DONE
    one.sendall(b'{"execute": "stop"}')
    heard = receive(one, 2).splitlines(keepends=True)
    assert receive(other, 1) == heard[0]
    assert heard[1] == DONE
    other.sendall(QUIT)
    assert b"host-qmp-quit" in receive(one, 2)
    assert receive(other, 2).endswith(DONE)
    assert vm.ends() == 0


def test_the_devices_are_listed_with_who_is_there(
    start: Start, connect: Callable[[str], socket.socket], tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        start(
            "-chardev null,id=n -qmp unix:q,server,nowait -qmp tcp:127.0.0.1:0,server,nowait",
            "-chardev socket,id=s,path=s -serial chardev:s",
        )
        client = connect("q")
        client.sendall(NEGOTIATE + b'{"execute": "query-chardev"}')
        answer = receive(client, 3).splitlines()[2].decode()
        port = int(answer.partition("tcp:127.0.0.1:")[2].partition(",")[0])
        assert answer == (
            '{"return": [{"frontend-open": false, "filename": "null", "label": "n"}, '
            '{"frontend-open": true, "filename": "unix:", "label": "s"}, '
            '{"frontend-open": true, "filename": "unix:q,server=on", "label": "compat_monitor0"}, '
            '{"frontend-open": true, "filename": "disconnected:tcp:127.0.0.1:'
            f'{port},server=on", "label": "compat_monitor1"}}]}}'
        )
        with socket.create_connection(("127.0.0.1", port), WITHIN) as other:
            assert receive(other, 1) == GREETING
            us = f"{other.getsockname()[0]}:{other.getsockname()[1]}"
            client.sendall(b'{"execute": "query-chardev"}')
            told = f'"tcp:127.0.0.1:{port},server=on <-> {us}"'
            assert told in receive(client, 1).decode()


def test_other_devices_can_be_connected_to_and_say_nothing(
    start: Start, connect: Callable[[str], socket.socket], tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        listener.settimeout(WITHIN)
        vm = start(
            "-chardev socket,id=s,path=s -serial chardev:s",
            "-serial unix:t,server,nowait -monitor unix:m,server,nowait",
        )
        console, _ = listener.accept()
    machine = vm.ready()
    with console:
        for line in (console, connect("t"), connect("m")):
            line.sendall(b"hello\n" + NEGOTIATE + QUIT)
            assert not select.select([line], [], [], 0.02)[0]
        assert "qmp" not in vm.events
        vm.popen.terminate()
        assert console.recv(1) == b""
    assert vm.ends() == 0
    assert machine.disk.audit().ok


def test_a_helper_does_not_hold_what_was_passed_to_the_vm(start: Start) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fd = theirs.fileno()
        options = f"-chardev socket,id=m,fd={fd} -mon chardev=m,mode=control"
        vm = start(options, fds=(fd,), knobs=Knobs(helpers=1))
        machine = vm.ready()
        theirs.close()
        ours.settimeout(WITHIN)
        assert receive(ours, 1) == GREETING
        os.kill(machine.pid, signal.SIGKILL)
        assert ours.recv(1) == b""
        assert len(machine.processes()) == 1


def test_what_cannot_be_opened_ends_the_start(start: Start) -> None:
    refusals = {
        "-qmp unix:/nonexistent/x,server=on,wait=off": (
            "Failed to bind socket to /nonexistent/x: No such file or directory"
        ),
        "-qmp unix:/nonexistent/x": (
            "Failed to connect to '/nonexistent/x': No such file or directory"
        ),
        "-chardev socket,id=c,fd=77": "File descriptor '77' is not a socket",
        "-chardev socket,id=c,fd=0": "File descriptor '0' is not a socket",
    }
    for options, text in refusals.items():
        vm = start(options)
        assert vm.ends() == 1
        assert vm.stderr == f"qemu-system-x86_64: {options}: {text}\n"
        assert vm.events[-1] == "exit"
        assert "ready" not in vm.events


# -- states


def test_a_vm_that_starts_stopped_writes_when_it_goes_on(
    start: Start, connect: Callable[[str], socket.socket]
) -> None:
    vm = start("-S -qmp unix:q,server,nowait", knobs=Knobs(guest="writing", flush_time=0.1))
    machine = vm.ready()
    client = connect("q")
    client.sendall(NEGOTIATE + b'{"execute": "query-status"}')
    assert b'"status": "prelaunch", "singlestep": false, "running": false' in receive(client, 3)
    assert vm.events.count("ack") == 1
    client.sendall(b'{"execute": "cont"}')
    assert b'"event": "RESUME"' in receive(client, 2)
    until(lambda: vm.events.count("ack") > 1, "a write of the guest")
    os.kill(machine.pid, signal.SIGTERM)
    assert vm.ends() == 0
    assert machine.disk.audit().ok


@pytest.mark.parametrize("by", ["quit", "SIGTERM"])
def test_no_shutdown_leaves_a_halted_vm(
    start: Start, connect: Callable[[str], socket.socket], by: str
) -> None:
    vm = start("-no-shutdown -qmp unix:q,server,nowait")
    machine = vm.ready()
    client = connect("q")
    client.sendall(NEGOTIATE + b'{"execute": "system_powerdown"}{"execute": "query-status"}')
    heard = receive(client, 7).decode().splitlines()[2:]
    names = [line.partition('"event": ')[2].rstrip("}") or line for line in heard]
    assert names == [
        '"POWERDOWN"',
        '{"return": {}}',
        '"SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"',
        '"STOP"',
        '{"return": {"status": "shutdown", "singlestep": false, "running": false}}',
    ]
    client.sendall(b'{"execute": "cont"}')
    assert receive(client, 1) == (
        b'{"error": {"class": "GenericError", "desc": '
        b'"Resetting the Virtual Machine is required"}}\r\n'
    )
    # what the guest wrote is on the disk, and nobody has asked the VM to end
    assert vm.events.index("halt") < vm.events.index("flush_begin")
    assert "flush_end" in vm.events
    assert "qmp" not in vm.events
    assert machine.disk.audit().ok
    if by == "quit":
        client.sendall(QUIT)
    else:
        os.kill(machine.pid, signal.SIGTERM)
    reason = b"host-qmp-quit" if by == "quit" else b"host-signal"
    assert reason in receive(client, 2)
    assert vm.ends() == 0
    assert machine.disk.audit().ok


def test_a_halted_vm_can_be_reset_and_go_on(
    start: Start, connect: Callable[[str], socket.socket]
) -> None:
    vm = start("-no-shutdown -qmp unix:q,server,nowait")
    vm.ready()
    client = connect("q")
    client.sendall(NEGOTIATE + b'{"execute": "system_powerdown"}')
    receive(client, 6)
    client.sendall(b'{"execute": "system_reset"}{"execute": "query-status"}{"execute": "cont"}')
    reset, done, status, resumed, _ = receive(client, 5).splitlines(keepends=True)
    assert b'"RESET", "data": {"guest": false, "reason": "host-qmp-system-reset"}' in reset
    assert done == DONE
    assert b'"prelaunch"' in status
    assert b'"RESUME"' in resumed


def test_no_reboot_makes_a_reset_the_end(
    start: Start, connect: Callable[[str], socket.socket]
) -> None:
    vm = start("-no-reboot -qmp unix:q,server,nowait")
    machine = vm.ready()
    client = connect("q")
    client.sendall(NEGOTIATE + b'{"execute": "system_reset", "id": 1}')
    heard = receive(client, 9).splitlines(keepends=True)
    assert b'"SHUTDOWN", "data": {"guest": false, "reason": "host-qmp-system-reset"}' in heard[2]
    assert heard[3:] == [b'{"return": {}, "id": 1}\r\n']
    assert vm.ends() == 0
    assert machine.disk.audit().ok


# -- pid file and daemon


def test_the_pid_file_is_there_as_long_as_the_vm(start: Start, tmp_path: Path) -> None:
    vm = start("-pidfile vm.pid")
    machine = vm.ready()
    assert (tmp_path / "vm.pid").read_text() == f"{machine.pid}\n"
    assert (tmp_path / "vm.pid").stat().st_mode & 0o777 == 0o600
    assert (machine.dir / "pid").read_text() == f"{machine.pid}\n"
    second = start("-pidfile vm.pid")
    assert second.ends() == 1
    assert second.stderr == (
        "qemu-system-x86_64: cannot create PID file: Cannot lock pid file: "
        "Resource temporarily unavailable\n"
    )
    assert (tmp_path / "vm.pid").read_text() == f"{machine.pid}\n"
    vm.popen.terminate()
    assert vm.ends() == 0
    assert not (tmp_path / "vm.pid").exists()


def test_a_killed_vm_leaves_its_pid_file_and_the_next_one_may_have_it(
    start: Start, tmp_path: Path
) -> None:
    vm = start("-pidfile vm.pid")
    vm.ready()
    vm.popen.kill()
    vm.ends()
    assert (tmp_path / "vm.pid").exists()
    machine = start("-pidfile vm.pid").ready()
    assert (tmp_path / "vm.pid").read_text() == f"{machine.pid}\n"


def test_a_pid_file_that_cannot_be_written(start: Start) -> None:
    vm = start("-pidfile /nonexistent/p")
    assert vm.ends() == 1
    assert vm.stderr == (
        "qemu-system-x86_64: cannot create PID file: Could not create '/nonexistent/p': "
        "No such file or directory\n"
    )


def test_daemonize(start: Start, connect: Callable[[str], socket.socket], tmp_path: Path) -> None:
    vm = start("-daemonize -pidfile vm.pid -qmp unix:q,server=on,wait=off")
    # to their end: the daemon has let go of both, and it was ready before that
    out, _ = vm.popen.communicate(timeout=WITHIN)
    assert (vm.ends(), out, vm.stderr) == (0, b"", "")
    assert "handlers" in vm.events
    machine = vm.ready()
    assert machine.pid != vm.popen.pid
    assert [start.pid for start in vm.unstarted.starts] == [machine.pid]
    assert (tmp_path / "vm.pid").read_text() == f"{machine.pid}\n"
    assert os.getsid(machine.pid) != os.getsid(0)
    assert os.getsid(machine.pid) != machine.pid  # a terminal cannot become its own
    assert Path(f"/proc/{machine.pid}/cwd").readlink() == Path("/")
    standard = [Path(f"/proc/{machine.pid}/fd/{fd}").readlink() for fd in (0, 1, 2)]
    assert standard == [Path("/dev/null")] * 3
    quits(connect("q"))
    assert machine.wait(WITHIN).code == 0
    assert machine.disk.audit().ok
    assert not (tmp_path / "vm.pid").exists()
    assert not (tmp_path / "q").exists()


def test_a_daemon_that_does_not_start_is_said_by_the_status(start: Start) -> None:
    vm = start("-daemonize -pidfile /nonexistent/p")
    assert vm.ends() == 1
    assert "Could not create '/nonexistent/p'" in vm.stderr


def test_helpers_of_a_daemon_that_does_not_start_go_with_it(start: Start) -> None:
    vm = start("-daemonize -pidfile /nonexistent/p", knobs=Knobs(helpers=2))
    assert vm.ends() == 1
    until(lambda: vm.unstarted.prepared.mark.gone(0), "the end of all of it")


def test_a_helper_that_stays_does_not_keep_the_first_process_waiting(start: Start) -> None:
    stays = Knobs(helpers=1, helper=frozenset({"ignores_term"}))
    vm = start("-daemonize -pidfile /nonexistent/p", knobs=stays)
    assert vm.ends() == 1  # the helper does not hold the pipe by which it is told
    assert not vm.unstarted.prepared.mark.gone(0)


def test_a_daemon_that_waits_for_its_client_keeps_its_parent_waiting(
    start: Start, connect: Callable[[str], socket.socket]
) -> None:
    vm = start("-daemonize -qmp unix:q,server=on")
    vm.says("waiting for connection")
    assert vm.popen.poll() is None
    client = connect("q")
    assert vm.ends() == 0
    quits(client)


def test_a_daemon_whose_parent_was_killed_goes_on(
    start: Start, connect: Callable[[str], socket.socket]
) -> None:
    vm = start("-daemonize -qmp unix:q,server=on")
    vm.says("waiting for connection")
    vm.popen.kill()
    vm.ends()
    client = connect("q")
    machine = vm.ready()
    quits(client)
    assert machine.wait(WITHIN).code == 0


def test_a_daemon_ends_with_its_keeper(start: Start) -> None:
    vm = start("-daemonize", knobs=Knobs(helpers=1, helper=frozenset({"session"})))
    assert vm.ends() == 0
    machine = vm.ready()
    watched = [machine.pid, *machine.processes()]
    assert len(watched) == 2
    pidfds = [os.pidfd_open(pid) for pid in watched]
    vm.unstarted.close()
    try:
        assert all(marks.await_end(fd, WITHIN) for fd in pidfds)
    finally:
        for fd in pidfds:
            os.close(fd)
