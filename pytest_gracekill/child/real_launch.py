"""Starting a real QEMU: image, slow disk, process, and the guest's writes, until it is ready.

QEMU is born with one end of each connection, to its disk and to its monitor: no path is waited for,
and none is left. It holds the mark as a fake does, so that the kernel ends it with the run.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gracekill import clock
from pytest_gracekill.errors import StartError, UsageError

from . import programfile, real_image, real_programs
from .launch import GONE_WITHIN, READY_WITHIN, Launched, Prepared, open_vm, socket_path
from .mark import Mark
from .nbd import NbdServer
from .real_command import command_line
from .real_guest import ByExport, ByMonitor
from .real_monitor import Monitor
from .real_record import RealRecord

if TYPE_CHECKING:
    from .real_knobs import RealKnobs

_TEMPLATE = """\
import sys
sys.path.insert(0, {child!r})
from program.exec_qemu import main
from program.configuration import Configuration
del sys.path[0]
main(Configuration(**{literals!r}), {command!r}, {descriptors!r})
"""

_NAME = "start-qemu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A real QEMU that is ready, as raw parts. ``version`` is what it said of itself."""

    launched: Launched
    knobs: RealKnobs
    server: NbdServer
    record: RealRecord
    monitor: Monitor
    guest: ByMonitor | ByExport
    version: str

    def __str__(self) -> str:
        return f"QEMU {self.version}, pid {self.launched.pid}"


def start(knobs: RealKnobs, directory: Path) -> Started:
    """Start a real QEMU in a directory of its own, with everything acknowledged as its knobs say.

    :raises MissingQemuError: it is not installed.
    :raises StartError: it did not become ready; nothing is left running.
    """
    name = real_programs.SYSTEM if knobs.program == "qemu" else real_programs.DAEMON
    program = real_programs.find(name, real_programs.IMG, real_programs.IO)[name]
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / _NAME).exists():
        raise UsageError(f"{directory} has a QEMU already: each needs a directory of its own")
    deadline = clock.monotonic() + READY_WITHIN
    with ExitStack() as undo:
        try:
            started = _start(knobs, directory, program, deadline, undo)
        except (OSError, subprocess.SubprocessError) as error:
            raise StartError(account(str(error), directory)) from error
        undo.pop_all()
        return started


def _start(
    knobs: RealKnobs, directory: Path, program: str, deadline: float, undo: ExitStack
) -> Started:
    image = directory / "disk"
    real_image.create(image, blocks=knobs.blocks, lazy_refcounts=knobs.lazy_refcounts)
    record = RealRecord(
        directory / "journal", directory / "stderr", tables=real_image.tables(image)
    )
    undo.callback(record.close)
    server = NbdServer(image)
    undo.callback(server.close)
    server.on_met, server.on_served = record.met, record.served
    prepared = prepare(knobs, directory)
    undo.callback(prepared.discard)
    # closed here when QEMU has them: its end is to be an end of file
    with ExitStack() as theirs:
        disk = theirs.enter_context(server.connect())
        ours, monitored = socket.socketpair()
        theirs.enter_context(monitored)
        monitor = Monitor(ours, record.event)
        undo.callback(monitor.close)
        listening = theirs.enter_context(socket.socket(socket.AF_UNIX))
        fds = {"disk": disk.fileno(), "monitor": monitored.fileno()}
        at = b""
        if knobs.program == "storage-daemon":
            listening.bind("")  # Linux finds a name for it, which is no file's
            listening.listen(1)
            fds["export"], at = listening.fileno(), listening.getsockname()
        command = command_line(knobs, prepared, program, fds)
        popen, first, pid, pidfd = _launch(knobs, prepared, command, list(fds.values()), deadline)
        undo.callback(_end, popen, first, pidfd)
    greeting = monitor.greet(deadline)
    guest: ByMonitor | ByExport = ByMonitor(monitor, directory / "stdout")
    if at:
        client = socket.socket(socket.AF_UNIX)
        undo.callback(client.close)
        client.settimeout(READY_WITHIN)
        client.connect(at)
        guest = ByExport(client)
    make_dirty(knobs, guest, record, deadline)
    slow_down(knobs, server)
    record.ready()
    monitor.watch()
    return Started(
        launched=Launched(
            prepared=prepared, popen=popen, pid=pid, pidfd=pidfd, first_pidfd=first, heard=b""
        ),
        knobs=knobs,
        server=server,
        record=record,
        monitor=monitor,
        guest=guest,
        version=version_of(greeting),
    )


def prepare(knobs: RealKnobs, directory: Path) -> Prepared:
    """Make what the process is known and heard by: the mark, and the FIFO for its pid."""
    os.mkfifo(directory / "ready", 0o600)
    mark = Mark(directory / "mark")
    try:
        return Prepared(
            knobs=knobs.as_fake(held=False, stood=0.0),
            directory=directory,
            program=directory / _NAME,
            mark=mark,
            # both ends, so that it never reads as ended
            ready=os.open(directory / "ready", os.O_RDWR | os.O_NONBLOCK),
            qmp=socket_path(directory) if knobs.qmp else None,
            literals={},
        )
    except BaseException:
        mark.release()
        raise


def _launch(
    knobs: RealKnobs,
    prepared: Prepared,
    command: list[str],
    descriptors: list[int],
    deadline: float,
) -> tuple[subprocess.Popen[bytes], int, int, int]:
    """Start the process; returns it, a pidfd of it, and the pid of QEMU with its pidfd."""
    directory = prepared.directory
    literals = {
        "topology": knobs.topology,
        "mark": str(prepared.mark.path.absolute()),
        "ready": str((directory / "ready").absolute()),
        "journal": str((directory / "journal").absolute()),
        "reaper_delay": float(knobs.reaper_delay),
        "reuse_pid": knobs.reuse_pid,
        "blocks": knobs.blocks,
        "block_size": real_image.CLUSTER,
        "seed": 0,
    }
    prepared.program.write_text(
        _TEMPLATE.format(
            child=str(Path(__file__).parent),
            literals=literals,
            command=command,
            descriptors=descriptors,
        ),
        encoding="utf-8",
        errors="surrogateescape",
    )
    with (directory / "stdout").open("wb") as stdout, (directory / "stderr").open("wb") as stderr:
        popen = subprocess.Popen(
            programfile.argv(prepared.program),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            pass_fds=descriptors,
        )
    first = -1
    try:
        first = os.pidfd_open(popen.pid)
        pid, pidfd = _told_pid(prepared, first, deadline)
    except BaseException:
        _end(popen, first, -1)
        raise
    return popen, first, pid, pidfd


def _told_pid(prepared: Prepared, first: int, deadline: float) -> tuple[int, int]:
    """QEMU's pid, by its own word just before its exec, and a pidfd of it."""
    ready = prepared.ready
    poll = select.poll()
    poll.register(ready, select.POLLIN)
    poll.register(first, select.POLLIN)
    text = b""
    while b"\n" not in text:
        events = dict(poll.poll(max(0.0, deadline - clock.monotonic()) * 1000))
        if ready in events:
            text += os.read(ready, 4096)
        elif first in events:
            raise OSError("ended before it was QEMU")
        elif not events:
            raise OSError(f"no process after {READY_WITHIN:g} s")
    pid = int(text.split()[1])
    pidfd = open_vm(pid, prepared.mark)
    if pidfd < 0:
        raise OSError(f"pid {pid} has ended at once")
    return pid, pidfd


def _end(popen: subprocess.Popen[bytes], *pidfds: int) -> None:
    """Leave nothing of a start that failed."""
    popen.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        popen.wait(GONE_WITHIN)
    for pidfd in pidfds:
        if pidfd >= 0:
            os.close(pidfd)


def make_dirty(
    knobs: RealKnobs, guest: ByMonitor | ByExport, record: RealRecord, deadline: float
) -> None:
    """Write everything, and flush what the guest is to have flushed; each must be acknowledged."""
    before, after = range(knobs.flushed), range(knobs.flushed, knobs.blocks)
    for blocks in (list(before), list(after)):
        if not blocks:
            continue
        told = guest.write(blocks, deadline)
        if sorted(told) != blocks:
            raise OSError(f"QEMU has acknowledged {len(told)} of {len(blocks)} writes")
        record.acknowledged(blocks)
        if blocks == list(before):
            guest.flush(deadline)


def slow_down(knobs: RealKnobs, server: NbdServer) -> None:
    """Have the flush take its time: it writes each dirty table, and the refcounts."""
    writes = knobs.blocks - knobs.flushed + (2 if knobs.lazy_refcounts else 1)
    server.write_delay = knobs.seconds / writes
    if knobs.gate == "held":
        server.gate.hold()


def version_of(greeting: dict[str, object]) -> str:
    """QEMU's version, as "7.2.22", by its greeting."""
    said = greeting["QMP"]
    assert isinstance(said, dict)
    numbers = said["version"]["qemu"]
    return f"{numbers['major']}.{numbers['minor']}.{numbers['micro']}"


def account(what: str, directory: Path) -> str:
    """What happened, with everything that QEMU left behind about it."""
    kept = directory / "stderr"
    said = kept.read_text(encoding="utf-8", errors="replace").strip() if kept.exists() else ""
    return f"QEMU in {directory} did not become ready: {what}\nstderr:\n  {said or '(empty)'}"
