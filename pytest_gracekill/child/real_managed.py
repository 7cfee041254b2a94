"""A real QEMU that somebody else starts: libvirt, or whatever runs VMs.

The manager is given a disk, served over NBD at a UNIX socket, and a program to run in QEMU's place.
A command line that names the disk's socket starts a VM: the program takes the mark, adds a monitor
for us, and becomes QEMU. Any other one (`-version`, what libvirt asks of a binary) becomes QEMU as
it stands. The monitor is a client of a socket of ours, so that nobody has to look for it; both
sockets' files are taken away as soon as QEMU is connected.

A monitor that the manager has at QEMU's standard input and output, as labgrid, it has as before
(`program/stdio.py`). It cannot see what the manager keeps apart: what else QEMU says there, and its
standard error, come to our folder.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gracekill import clock
from pytest_gracekill.errors import StartError, UsageError

from . import mark as marks
from . import programfile, real_image, real_launch, real_programs
from .journal import Journal
from .launch import (
    LONGEST_SOCKET_PATH,
    OWN,
    READY_WITHIN,
    Launched,
    Prepared,
    new_folder,
    open_vm,
)
from .nbd import NbdServer
from .real_guest import ByMonitor
from .real_monitor import Monitor
from .real_qemu import RealQemu
from .real_record import RealRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from .real_knobs import RealKnobs
    from .real_monitor import Message

_TEMPLATE = """\
{shebang}
import os, sys
command = [{program!r}, *sys.argv[1:]]
if not any({disk!r} in word for word in command):
    os.execv(command[0], command)
sys.path.insert(0, {child!r})
from program.stdio import moved
command = moved(command, {folder!r})
for number, name in ((1, {stdout!r}), (2, {stderr!r})):
    os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), number)
from program.exec_qemu import main
from program.configuration import Configuration
del sys.path[0]
main(Configuration(**{literals!r}), [*command, *{more!r}], [])
"""
_NAME = "qemu-system-x86_64"


class RealChild:
    """A real QEMU, not yet started: what ``start`` of `real_qemu` gets.

    Run ``program`` in the place of ``qemu-system-x86_64``, with any options, and with a qcow2 disk
    that is served over NBD at the UNIX socket ``disk``; once. ``dir`` is a folder of the manager's
    own: no file of ours is in it.
    """

    def __init__(self, program: Path, disk: Path, directory: Path) -> None:
        self.program = str(program)
        self.disk = str(disk)
        self.dir = directory

    def __repr__(self) -> str:
        return f"<RealChild {self.program}>"


def spawn_by(start: Callable[[RealChild], object], knobs: RealKnobs, directory: Path) -> RealQemu:
    """Have a manager start a real QEMU, and return it ready, its disk written to.

    :param start: starts it; what it returns is of no interest.
    :raises MissingQemuError: QEMU is not installed.
    :raises StartError: it did not become ready in time; nothing is left running.
    """
    if knobs.program != "qemu" or knobs.topology != "reaped" or knobs.qmp or knobs.reuse_pid:
        raise UsageError(
            "start=...: a QEMU that somebody else starts has what they give it: program, topology,"
            " reuse_pid and qmp cannot be asked for",
            source="the call",
        )
    names = (real_programs.SYSTEM, real_programs.IMG, real_programs.IO)
    program = real_programs.find(*names)[real_programs.SYSTEM]
    directory = Path(directory).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as undo:
        vm = _Managed(knobs, directory, program, undo).begin(start)
        undo.pop_all()
        return vm


class _Managed:
    """One start; ``undo`` gets what has to be taken back when it fails."""

    def __init__(self, knobs: RealKnobs, directory: Path, program: str, undo: ExitStack) -> None:
        self._knobs = knobs
        self._dir = directory
        self._qemu = program
        self._undo = undo
        self._sockets = _short(directory)
        if self._sockets != directory:
            undo.callback(shutil.rmtree, self._sockets, ignore_errors=True)

    def begin(self, start: Callable[[RealChild], object]) -> RealQemu:
        image, journal = self._dir / "disk", self._dir / "journal"
        try:
            real_image.create(
                image, blocks=self._knobs.blocks, lazy_refcounts=self._knobs.lazy_refcounts
            )
        except OSError as error:
            raise StartError(f"no image for QEMU in {self._dir}: {error}") from error
        record = RealRecord(journal, self._dir / "stderr", tables=real_image.tables(image))
        self._undo.callback(record.close)
        server = NbdServer(image, self._sockets / "nbd")
        self._undo.callback(server.close)
        server.on_met, server.on_served = record.met, record.served
        prepared = real_launch.prepare(self._knobs, self._dir)
        self._undo.callback(prepared.discard)
        with socket.socket(socket.AF_UNIX) as listening:
            at = self._sockets / "monitor"
            listening.bind(str(at))
            self._undo.callback(at.unlink, missing_ok=True)
            listening.listen(1)
            child = self._child(prepared)
            try:
                start(child)
            except Exception as error:
                error.add_note(real_launch.account("its start has raised", self._dir))
                raise
            deadline = clock.monotonic() + READY_WITHIN
            try:
                pid, pidfd = self._started(prepared, deadline)
                self._undo.callback(os.close, pidfd)
                monitor = Monitor(_connected(listening, pidfd, deadline), record.event)
                self._undo.callback(monitor.close)
                greeting = monitor.greet(deadline)
                guest = ByMonitor(monitor, self._dir / "stdout", self._drive(monitor, deadline))
                real_launch.make_dirty(self._knobs, guest, record, deadline)
                self._check_unflushed(journal)
            except OSError as error:
                raise StartError(real_launch.account(str(error), self._dir)) from error
        at.unlink()
        (self._sockets / "nbd").unlink()
        if self._sockets != self._dir:
            self._sockets.rmdir()
        real_launch.slow_down(self._knobs, server)
        record.ready()
        monitor.watch()
        vm = RealQemu(
            real_launch.Started(
                launched=Launched(
                    prepared=prepared, popen=None, pid=pid, pidfd=pidfd, first_pidfd=-1, heard=b""
                ),
                knobs=self._knobs,
                server=server,
                record=record,
                monitor=monitor,
                guest=guest,
                version=real_launch.version_of(greeting),
            )
        )
        parent, name = marks.parent_of(pid)
        vm.started_by = None if parent == os.getpid() else name
        return vm

    def _child(self, prepared: Prepared) -> RealChild:
        """Write the program that becomes QEMU."""
        monitor = f"socket,id=gracekill,path={_quoted(self._sockets / 'monitor')}"
        program = self._dir / _NAME
        for name in ("stdout", "stderr"):
            (self._dir / name).write_bytes(b"")
        literals = {
            "topology": "child",  # whose, the manager says
            "mark": str(prepared.mark.path),
            "ready": str(self._dir / "ready"),
            "journal": str(self._dir / "journal"),
            "blocks": self._knobs.blocks,
            "block_size": real_image.CLUSTER,
            "seed": 0,
        }
        text = _TEMPLATE.format(
            shebang=programfile.shebang(),
            program=self._qemu,
            disk=str(self._sockets / "nbd"),
            folder=str(self._dir),
            stdout=str(self._dir / "stdout"),
            stderr=str(self._dir / "stderr"),
            child=str(Path(__file__).parent),
            literals=literals,
            more=["-chardev", monitor, "-mon", "chardev=gracekill,mode=control"],
        )
        program.write_text(text, encoding="utf-8", errors="surrogateescape")
        program.chmod(0o755)
        return RealChild(program, self._sockets / "nbd", new_folder(self._dir, OWN))

    def _started(self, prepared: Prepared, deadline: float) -> tuple[int, int]:
        """The pid that the program has told, with a pidfd.

        :raises OSError: nobody has run it.
        """
        poll = select.poll()
        poll.register(prepared.ready, select.POLLIN)
        text = b""
        while b"\n" not in text:
            if not poll.poll(max(0.0, deadline - clock.monotonic()) * 1000):
                raise OSError(
                    f"nobody has run {self._dir / _NAME} with {self._sockets / 'nbd'} as a disk"
                    f" within {READY_WITHIN:g} s"
                )
            text += os.read(prepared.ready, 4096)
        pid = int(text.split()[1])
        pidfd = open_vm(pid, prepared.mark)
        if pidfd < 0:
            raise OSError(
                f"pid {pid}, which has run it, has ended; with -daemonize QEMU would go on as"
                " another process, which is not followed"
            )
        return pid, pidfd

    def _check_unflushed(self, journal: Path) -> None:
        """:raises OSError: a write went to the disk at once, so that none of it can be lost."""
        entries = Journal(journal).entries()
        through = [
            entry
            for entry in entries
            if entry.event == "block" and entry.number("index") >= self._knobs.flushed
        ]
        if through:
            raise OSError(
                f"{len(through)} of {self._knobs.blocks - self._knobs.flushed} writes were flushed"
                " at once: the disk is written through, by cache=writethrough, or because the"
                " firmware has set its device up without a write cache, as SeaBIOS does with"
                " virtio; give it no device, or do not let the guest run (-S)"
            )

    def _drive(self, monitor: Monitor, deadline: float) -> str:
        """Our disk as QEMU's monitor knows it: a device, or a block node that no device has.

        :raises OSError: QEMU has no such disk.
        """
        ours = str(self._sockets / "nbd")
        asked: list[Message] = [
            {"execute": "query-block"},
            {"execute": "query-named-block-nodes"},
        ]
        drives, nodes = monitor.ask(asked, deadline)
        assert isinstance(drives, list)
        assert isinstance(nodes, list)
        for drive in drives:
            if ours in json.dumps(drive.get("inserted")) and (of := drive.get("qdev")):
                return f"-d {of}"
        for node in nodes:
            if node["drv"] == "qcow2" and ours in json.dumps(node):
                return str(node["node-name"])
        raise OSError(f"QEMU has no disk of format qcow2 at {ours}")


def _connected(listening: socket.socket, pidfd: int, deadline: float) -> socket.socket:
    """QEMU's connection to us.

    :raises OSError: it has ended before, or does not come.
    """
    poll = select.poll()
    poll.register(listening, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    events = dict(poll.poll(max(0.0, deadline - clock.monotonic()) * 1000))
    if listening.fileno() in events:
        return listening.accept()[0]
    raise OSError("it has ended" if events else f"no monitor after {READY_WITHIN:g} s")


def _short(directory: Path) -> Path:
    """A folder whose sockets' paths are short enough for their addresses."""
    if len(os.fsencode(directory / "monitor")) <= LONGEST_SOCKET_PATH:
        return directory
    return Path(tempfile.mkdtemp(prefix="gracekill-", dir="/tmp"))


def _quoted(path: Path) -> str:
    return str(path).replace(",", ",,")
