"""A real QEMU that somebody else starts: whatever they do, it is judged, or said to be wrong."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill import StartError
from pytest_gracekill.child import real_managed
from pytest_gracekill.child.mark import state
from pytest_gracekill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gracekill.child.real_managed import RealChild
    from pytest_gracekill.fixtures import Judge, StartReal

# when QEMU has let go of its disk, a busy machine still has to end the process
pytestmark = pytest.mark.gracekill(slack=5.0)

SMALL = ("-machine", "none", "-display", "none", "-nodefaults")


def drive(child: RealChild) -> list[str]:
    """The disk as a block node that no device has."""
    disk = {"driver": "nbd", "node-name": "below", "server": {"type": "unix", "path": child.disk}}
    qcow2 = {"driver": "qcow2", "node-name": "mine", "file": "below"}
    return ["-blockdev", json.dumps(disk), "-blockdev", json.dumps(qcow2)]


class Manager:
    """Starts a QEMU in the background, and reaps it when it has ended, as managers do."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.child: RealChild | None = None

    def __call__(self, child: RealChild) -> None:
        self.run(child, *self._options, *drive(child))

    def run(self, child: RealChild, *options: str) -> None:
        self.child = child
        self._process = subprocess.Popen([child.program, *options], start_new_session=True)
        self._reaper = threading.Thread(target=self._process.wait, daemon=True)
        self._reaper.start()

    def stop(self, pid: int) -> None:
        assert self._process is not None
        assert self._process.pid == pid
        self._process.terminate()
        self._reaper.join()

    def kill(self, pid: int) -> None:
        assert self._process is not None
        assert self._process.pid == pid
        self._process.kill()
        self._reaper.join()


@contextlib.contextmanager
def nothing_left(of: Manager) -> Iterator[None]:
    """A start that fails leaves neither a process nor a file but those that explain it."""
    yield
    assert of.child is not None
    assert not Path(of.child.disk).exists()
    assert not {"mark", "ready", "monitor", "nbd"} & {
        path.name for path in of.child.dir.parent.iterdir()
    }
    if of._process is not None:
        of._reaper.join(10)
        assert state(of._process.pid) in ("", "Z")


def test_stopped(real_qemu: StartReal, gracekill: Judge) -> None:
    manager = Manager(*SMALL)
    vm = real_qemu(start=manager, flush_time=0.3)
    report = gracekill(manager.stop, vm=vm)
    report.check()
    assert len(report.disk.acknowledged) == 64


def test_killed(real_qemu: StartReal, gracekill: Judge) -> None:
    manager = Manager(*SMALL)
    report = gracekill(manager.kill, vm=real_qemu(start=manager, flush_time=0.3), force=True)
    assert report.disk.lost == list(range(64))
    assert report.headline().startswith("gracekill: DATA LOST (64 of 64 blocks: 0-63)")


def test_gate(real_qemu: StartReal) -> None:
    manager = Manager(*SMALL)
    vm = real_qemu(start=manager, gate="held", blocks=8)
    os.kill(vm.pid, 15)
    assert vm.gate.seen.wait(20)
    assert vm.alive
    vm.gate.open()
    assert vm.wait(20).code == 0
    assert vm.disk.audit().ok


def test_a_disk_of_a_device(real_qemu: StartReal, gracekill: Judge) -> None:
    """Only its device may write to it: the guest's writes go by that."""

    class OfADevice(Manager):
        def __call__(self, child: RealChild) -> None:
            self._options = (
                *("-machine", "q35", "-accel", "tcg", "-S", "-display", "none", "-nodefaults"),
                *("-device", "virtio-blk-pci,drive=mine,id=vda"),
            )
            super().__call__(child)

    manager = OfADevice()
    vm = real_qemu(start=manager, flush_time=0.3)
    gracekill(manager.stop, vm=vm).check()


def test_a_question_starts_nothing(real_qemu: StartReal) -> None:
    said: list[str] = []

    class Asks(Manager):
        def __call__(self, child: RealChild) -> None:
            command = [child.program, "-version"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            said.append(done.stdout)
            super().__call__(child)

    vm = real_qemu(start=Asks(*SMALL), flush_time=0.0)
    assert said[0].startswith(f"QEMU emulator version {vm.version}")


def test_a_folder_with_a_long_path(
    real_qemu: StartReal, gracekill: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(real_managed, "LONGEST_SOCKET_PATH", 1)
    manager = Manager(*SMALL)
    vm = real_qemu(start=manager, flush_time=0.3)
    gracekill(manager.stop, vm=vm).check()
    assert manager.child is not None
    assert not Path(manager.child.disk).parent.exists()


def test_no_sockets_are_left_of_one_that_runs(real_qemu: StartReal) -> None:
    manager = Manager(*SMALL)
    vm = real_qemu(start=manager, flush_time=0.0)
    assert vm.alive
    assert not [path for path in vm.dir.iterdir() if path.is_socket()]


# -- starts that fail


def test_a_start_that_raises(real_qemu: StartReal) -> None:
    class Broken(Manager):
        def __call__(self, child: RealChild) -> None:
            super().__call__(child)
            raise LookupError("no such domain")

    manager = Broken(*SMALL)
    with nothing_left(manager), pytest.raises(LookupError, match="no such domain") as seen:
        real_qemu(start=manager)
    assert "stderr" in "".join(seen.value.__notes__)


def test_a_start_that_starts_nothing(real_qemu: StartReal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_managed, "READY_WITHIN", 0.2)

    class Idle(Manager):
        def __call__(self, child: RealChild) -> None:
            self.child = child

    manager = Idle()
    with nothing_left(manager), pytest.raises(StartError, match="nobody has run"):
        real_qemu(start=manager)


def test_a_qemu_that_ends_at_once(real_qemu: StartReal) -> None:
    manager = Manager("-no-such-option")
    # seen at once, not when its time is over
    with nothing_left(manager), pytest.raises(StartError, match=r"has ended\b[^$]*no-such-option"):
        real_qemu(start=manager)


def test_a_disk_of_the_wrong_format(real_qemu: StartReal) -> None:
    class Raw(Manager):
        def __call__(self, child: RealChild) -> None:
            disk = f"driver=nbd,node-name=raw,server.type=unix,server.path={child.disk}"
            self.run(child, *SMALL, "-blockdev", disk)

    manager = Raw()
    with nothing_left(manager), pytest.raises(StartError, match="no disk of format qcow2"):
        real_qemu(start=manager)


def test_a_disk_that_is_written_through(real_qemu: StartReal) -> None:
    class Through(Manager):
        def __call__(self, child: RealChild) -> None:
            disk = f"if=none,id=mine,format=qcow2,cache=writethrough,file=nbd:unix:{child.disk}"
            device = ("-device", "virtio-blk-pci,drive=mine")
            small = ("-machine", "q35", "-accel", "tcg", "-S", "-display", "none", "-nodefaults")
            self.run(child, *small, "-drive", disk, *device)

    manager = Through()
    with nothing_left(manager), pytest.raises(StartError, match="64 of 64 writes were flushed at"):
        real_qemu(start=manager)


@pytest.mark.parametrize(
    "options",
    [
        ("-qmp", "stdio"),
        ("--qmp", "stdio"),
        ("-chardev", "stdio,id=q", "-mon", "chardev=q,mode=control"),
    ],
    ids=" ".join,
)
def test_a_monitor_at_standard_input_and_output(
    real_qemu: StartReal, gracekill: Judge, options: tuple[str, ...]
) -> None:
    """It is the manager's, and has nothing of what else QEMU says there."""
    said: list[str] = []

    class Talks(Manager):
        def __call__(self, child: RealChild) -> None:
            self.child = child
            command = [child.program, *SMALL, *options, *drive(child)]
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True)
            self._process = process
            assert process.stdin is not None
            assert process.stdout is not None
            said.append(process.stdout.readline().decode())
            process.stdin.write(b"{'execute': 'qmp_capabilities'}")
            process.stdin.flush()

        def ask(self, pid: int) -> None:  # noqa: ARG002 - says what it is
            assert self._process is not None
            rest, _ = self._process.communicate(b"{'execute': 'quit'}", timeout=30)
            said.extend(rest.decode().splitlines())

    manager = Talks()
    report = gracekill(manager.ask, vm=real_qemu(start=manager, flush_time=0.3))
    report.check()
    assert [next(iter(json.loads(line))) for line in said] == [
        *("QMP", "return", "timestamp", "return")
    ]


def test_one_that_daemonises(real_qemu: StartReal) -> None:
    class Daemonised(Manager):
        def __call__(self, child: RealChild) -> None:
            self.child = child
            subprocess.run([child.program, *SMALL, *drive(child), "-daemonize"], check=True)

    manager = Daemonised()
    with nothing_left(manager), pytest.raises(StartError, match="-daemonize"):
        real_qemu(start=manager)


@pytest.mark.parametrize(
    "knobs", [{"program": "storage-daemon"}, {"topology": "child"}, {"qmp": True}]
)
def test_what_the_manager_decides(real_qemu: StartReal, knobs: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="cannot be asked for"):
        real_qemu(start=Manager(*SMALL), **knobs)
