"""The two kinds of VM that are compared, each started in the same two ways.

`Kind.vm`: one that has acknowledged blocks, with a disk that can be made to stand still in the
middle of the flush. `Kind.command`: by QEMU's command line, whatever that asks for.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import agreement_guest
from agreement_seen import WITHIN, Client, await_that, complaints

from pytest_gracekill import Stall, Stop
from pytest_gracekill.child import launch, programfile, real_image, real_programs, real_qemu
from pytest_gracekill.child.handle import FakeQemu, spawn
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.child.mark import await_end
from pytest_gracekill.child.real_knobs import RealKnobs
from pytest_gracekill.child.warden import Guarded

if TYPE_CHECKING:
    from contextlib import ExitStack

BLOCKS = 16


class Command:
    """A VM that was started by a command line; ``guarded`` is its first process."""

    def __init__(
        self, guarded: Guarded, folder: Path, monitor: Client | None, pidfd: int = -1
    ) -> None:
        self.guarded = guarded
        self.folder = folder
        self._monitor = monitor
        self._pidfd = pidfd
        self.pid_file = folder / "pid"

    @property
    def monitor(self) -> Client:
        assert self._monitor is not None
        return self._monitor

    @property
    def pid(self) -> int:
        """The VM's, by the connection that it has made to us."""
        return self.monitor.peer

    def signal(self, number: int) -> None:
        """Send the VM a signal; what becomes of it, if it ends by itself just now, shows."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def gone(self) -> None:
        """Wait until the VM has ended, whosever child it is."""
        assert await_end(self._pidfd, WITHIN), f"pid {self.pid} does not end"

    def status(self) -> int:
        """How the process that was started has ended."""
        return self.guarded.wait(WITHIN)

    def said(self) -> list[str]:
        """What it has written to its standard output and error."""
        return complaints(self.guarded.output.read_text(encoding="utf-8"), self.folder)


class Kind(ABC):
    """Starts VMs of one kind, each with a folder of its own; ``stack`` ends them."""

    name: str

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack

    @abstractmethod
    def vm(self) -> FakeQemu:
        """A VM that flushes at once when it is asked to stop."""

    @abstractmethod
    def held(self, durable: int) -> FakeQemu:
        """A VM that stands still when so many blocks are on its disk."""

    @abstractmethod
    def held_alive(self, durable: int) -> FakeQemu:
        """The same for a flush after which the VM stays, as that of QMP `stop`."""

    @abstractmethod
    def reach(self, vm: FakeQemu, durable: int) -> None:
        """Wait until it stands there."""

    @abstractmethod
    def release(self, vm: FakeQemu) -> None:
        """Let it go on."""

    @abstractmethod
    def endless(self) -> FakeQemu:
        """A VM whose flush never ends."""

    @abstractmethod
    def await_flush(self, vm: FakeQemu) -> None:
        """Wait until an `endless` one flushes."""

    @abstractmethod
    def argv(self, folder: Path, options: list[str], *, machine: bool) -> list[str]:
        """A command line; ``machine``: what kind of machine it is, is among the options."""

    @abstractmethod
    def image(self, folder: Path) -> tuple[Path, list[str]]:
        """The image that a VM started in this folder locks, and the options for it."""

    @abstractmethod
    def machine(self, folder: Path) -> list[str]:
        """Options for a PC whose guest heeds the power button."""

    @abstractmethod
    def await_guest(self, folder: Path) -> None:
        """Wait until that guest is up."""

    def folder(self) -> Path:
        """A new folder, with a path that is short enough for sockets."""
        made = tempfile.TemporaryDirectory(prefix="gracekill-")
        return Path(self.stack.enter_context(made))

    def command(
        self,
        *options: str,
        folder: Path | None = None,
        monitor: bool = True,
        machine: bool = False,
    ) -> Command:
        """Start one by its command line; with a monitor, it is ready on return.

        It connects to us: no client comes too early, and it says who it is.
        """
        at = self.folder() if folder is None else folder
        with socket.socket(socket.AF_UNIX) as listening:
            given = list(options)
            if monitor:
                listening.bind(str(at / "monitor"))
                listening.listen(1)
                listening.settimeout(WITHIN)
                given += [
                    *("-chardev", f"socket,id=m,path={at / 'monitor'}"),
                    *("-mon", "chardev=m,mode=control"),
                ]
            guarded = Guarded(self.argv(at, given, machine=machine), at, "vm")
            self.stack.callback(guarded.end)
            self.stack.callback(guarded.strike)
            if not monitor:
                return Command(guarded, at, None)
            client = Client(listening.accept()[0])
        self.stack.callback(client.close)
        pidfd = os.pidfd_open(client.peer)
        self.stack.callback(os.close, pidfd)
        client.negotiate()
        return Command(guarded, at, client, pidfd)

    def client(self, vm: FakeQemu) -> Client:
        """A client that has negotiated."""
        client = Client.of(vm.qmp)
        self.stack.callback(client.close)
        client.negotiate()
        return client


class Fake(Kind):
    name = "fake"

    def vm(self) -> FakeQemu:
        return self._spawn(Knobs(blocks=BLOCKS, flush_time=0.0, topology="child", qmp=True))

    def held(self, durable: int) -> FakeQemu:
        # stopped by its own signal; that is no state of QEMU's, and nothing of it is compared
        stop = Stop(at=durable)
        return self._spawn(
            Knobs(blocks=BLOCKS, flush_time=0.0, on_term=stop, topology="child", qmp=True)
        )

    def held_alive(self, durable: int) -> FakeQemu:
        # time enough to stop it by a signal there; it is held by that, and not by the stall
        stall = Stall(at=durable, seconds=2.0)
        return self._spawn(
            Knobs(blocks=BLOCKS, flush_time=0.0, flush_profile=stall, topology="child", qmp=True)
        )

    def reach(self, vm: FakeQemu, durable: int) -> None:
        if isinstance(vm.knobs.on_term, Stop):
            await_that(lambda: vm.journal.last("stop"), f"block {durable}")
            return

        def on_disk() -> int:
            return sum(entry.event == "block" for entry in vm.journal.entries())

        await_that(
            lambda: vm.journal.last("flush_begin") and on_disk() == durable, f"block {durable}"
        )
        os.kill(vm.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, vm.pid, os.WSTOPPED | os.WNOWAIT)
        assert on_disk() == durable, "the machine was too busy to stop it in its stall"

    def release(self, vm: FakeQemu) -> None:
        vm_stopped = vm.popen
        assert vm_stopped is not None
        # told in the journal just before it stops
        os.waitid(os.P_PID, vm.pid, os.WSTOPPED | os.WNOWAIT)
        os.kill(vm.pid, signal.SIGCONT)

    def endless(self) -> FakeQemu:
        return self._spawn(Knobs(blocks=BLOCKS, flush_profile="never", topology="child", qmp=True))

    def await_flush(self, vm: FakeQemu) -> None:
        await_that(lambda: vm.journal.last("flush_begin"), "the flush")

    def argv(
        self,
        folder: Path,
        options: list[str],
        *,
        machine: bool,  # noqa: ARG002 - always a PC
    ) -> list[str]:
        prepared = launch.prepare(Knobs(blocks=BLOCKS, flush_time=0.0), folder / "fake")
        self.stack.callback(prepared.discard)
        image = folder / "image"
        if image.exists():  # the one that another VM has
            (prepared.directory / "disk").unlink()
            (prepared.directory / "disk").hardlink_to(image)
        else:
            image.hardlink_to(prepared.directory / "disk")
        return [*programfile.argv(prepared.program), *options]

    def image(self, folder: Path) -> tuple[Path, list[str]]:
        return folder / "image", []

    def machine(self, folder: Path) -> list[str]:
        return agreement_guest.create(folder / "boot")

    def await_guest(self, folder: Path) -> None:
        """It is there as soon as the VM is."""

    def _spawn(self, knobs: Knobs) -> FakeQemu:
        vm = spawn(knobs, self.folder() / "vm")
        self.stack.callback(vm.close)
        return vm


class Real(Kind):
    name = "real"

    def vm(self) -> FakeQemu:
        return self._spawn(RealKnobs(blocks=BLOCKS, flush_time=0.0, topology="child", qmp=True))

    def held(self, durable: int) -> FakeQemu:  # noqa: ARG002 - `reach` brings it there
        return self.endless()

    def held_alive(self, durable: int) -> FakeQemu:  # noqa: ARG002 - `reach` brings it there
        return self.endless()

    def reach(self, vm: FakeQemu, durable: int) -> None:
        assert isinstance(vm, real_qemu.RealQemu)
        assert vm.gate.seen.wait(WITHIN)
        while sum(entry.event == "block" for entry in vm.journal.entries()) < durable:
            vm.gate.let(1)
            assert vm.gate.seen.wait(WITHIN)

    def release(self, vm: FakeQemu) -> None:
        assert isinstance(vm, real_qemu.RealQemu)
        vm.gate.open()

    def endless(self) -> FakeQemu:
        return self._spawn(RealKnobs(blocks=BLOCKS, gate="held", topology="child", qmp=True))

    def await_flush(self, vm: FakeQemu) -> None:
        self.reach(vm, 0)

    def argv(
        self,
        folder: Path,  # noqa: ARG002 - it needs nothing there
        options: list[str],
        *,
        machine: bool,
    ) -> list[str]:
        program = real_programs.find(real_programs.SYSTEM)[real_programs.SYSTEM]
        small = [] if machine else ["-machine", "none", "-display", "none", "-nodefaults"]
        return [program, *small, *options]

    def image(self, folder: Path) -> tuple[Path, list[str]]:
        path = folder / "image"
        if not path.exists():
            real_image.create(path, blocks=BLOCKS, lazy_refcounts=False)
        file = {"driver": "file", "filename": str(path)}
        return path, ["-blockdev", json.dumps({"driver": "qcow2", "node-name": "d", "file": file})]

    def machine(self, folder: Path) -> list[str]:
        return agreement_guest.create(folder / "boot")

    def await_guest(self, folder: Path) -> None:
        said = folder / agreement_guest.SAYS
        await_that(lambda: agreement_guest.READY in said.read_text(encoding="latin1"), "the guest")

    def _spawn(self, knobs: RealKnobs) -> FakeQemu:
        vm = real_qemu.spawn(knobs, self.folder() / "vm")
        self.stack.callback(vm.close)
        return vm


KINDS = (Fake, Real)
