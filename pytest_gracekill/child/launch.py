"""Starting a fake: its directory, its first process, and the wait until it is ready."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gracekill import clock, permitted
from pytest_gracekill.errors import StartError, UnsupportedError, UsageError
from pytest_gracekill.legible import escape

from . import disk, programfile, space
from .journal import Journal
from .mark import Mark
from .program import leaderless

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .knobs import Knobs

READY_WITHIN = 15.0
"""Seconds that a fake has to become ready, on a machine however busy."""

_SWEPT_WITHIN = 1.0
"""Seconds for processes that the kernel has sent SIGKILL, before they are looked for."""

GONE_WITHIN = 10.0
"""Seconds that killed processes have to disappear before that is a fault of ours."""

OWN = "own"
"""The folder of the adapter, below the VM's; short, since sockets may be in it."""

LONGEST_SOCKET_PATH = 100
"""Bytes; the address of a UNIX socket takes 107, and tools add suffixes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A fake that can be started by running its program, in a folder of its own.

    ``ready`` is the FIFO by which it tells its pid and that it is ready; ``qmp`` the path of its
    QMP socket, None without one; ``literals`` the configuration that is baked into the program.
    """

    knobs: Knobs
    directory: Path
    program: Path
    mark: Mark
    ready: int
    qmp: Path | None
    literals: Mapping[str, object]

    def __str__(self) -> str:
        return f"fake in {self.directory}, not started"

    def discard(self) -> None:
        """End whatever has the mark, and give back what was prepared; the folder stays."""
        self.mark.sweep()
        try:
            if not self.mark.gone(_SWEPT_WITHIN):
                # the first process of a pid namespace does not heed the kernel's word from within
                self.mark.strike_all(GONE_WITHIN)
        finally:
            self.mark.release()
            os.close(self.ready)
            self.tidy()

    def tidy(self) -> None:
        """Take away what nobody can use any more."""
        for name in ("mark", "ready"):
            (self.directory / name).unlink(missing_ok=True)
        if self.qmp is not None and self.qmp.parent != self.directory:
            shutil.rmtree(self.qmp.parent, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A fake that is ready, as raw parts.

    ``popen`` is the first process, with ``first_pidfd``; None and -1 where somebody else started
    it.
    ``heard`` is what came by the FIFO after the line that says so.
    """

    prepared: Prepared
    popen: subprocess.Popen[bytes] | None
    pid: int
    pidfd: int
    first_pidfd: int
    heard: bytes

    def __str__(self) -> str:
        return f"fake pid {self.pid} in {self.prepared.directory}"


def prepare(knobs: Knobs, directory: Path) -> Prepared:
    """Make everything that a fake needs but its process.

    :raises UsageError: the directory has a fake already, or the platform can have none.
    """
    _check_platform(knobs)
    permitted.check(subreaper=knobs.topology == "daemon")
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / programfile.NAME
    if program.exists():
        raise UsageError(f"{directory} has a fake already: each needs a directory of its own")
    image = directory / "disk"
    try:
        disk.create(image, blocks=knobs.blocks, block_size=knobs.block_size, seed=knobs.seed)
        space.create_journal(directory / "journal", blocks=knobs.blocks)
        os.mkfifo(directory / "ready", 0o600)
        mark = Mark(directory / "mark")
    except OSError as error:
        raise space.start_error(error, knobs, directory) from error
    ready = -1
    try:
        # both ends, so that it never reads as ended
        ready = os.open(directory / "ready", os.O_RDWR | os.O_NONBLOCK)
        qmp = socket_path(directory) if knobs.qmp else None
        literals = programfile.write(
            program,
            knobs,
            mark=mark.path,
            ready=directory / "ready",
            journal=directory / "journal",
            disk=image,
            pid_file=directory / "pid",
            qmp=qmp,
        )
    except BaseException as error:
        mark.release()
        if ready >= 0:
            os.close(ready)
        if isinstance(error, OSError):
            raise space.start_error(error, knobs, directory) from error
        raise
    return Prepared(
        knobs=knobs,
        directory=directory,
        program=program,
        mark=mark,
        ready=ready,
        qmp=qmp,
        literals=literals,
    )


def new_folder(directory: Path, name: str) -> Path:
    """Make a folder that is empty below a VM's: ``name``, or ``name-2`` in its second trial."""
    directory.mkdir(parents=True, exist_ok=True)
    folder, number = directory / name, 1
    while True:
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = directory / f"{name}-{number}"
        else:
            return folder


def socket_path(directory: Path) -> Path:
    """A path that fits into a UNIX socket's address, which the folder's own may not."""
    path = directory / "qmp"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    return Path(tempfile.mkdtemp(prefix="gracekill-", dir="/tmp")) / "qmp"


def launch(knobs: Knobs, directory: Path, stdout: int) -> Launched:
    """Start a fake in a directory of its own and wait until it is ready.

    :raises StartError: it did not become ready; nothing is left running.
    """
    prepared = prepare(knobs, directory)
    first = -1
    popen = None
    try:
        with (directory / "stderr").open("wb") as stderr:
            popen = subprocess.Popen(
                programfile.argv(prepared.program),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        first = os.pidfd_open(popen.pid)
        pid, pidfd, heard = _await(popen, first, prepared)
    except BaseException:
        _undo(popen, prepared)
        if first >= 0:
            os.close(first)
        raise
    return Launched(
        prepared=prepared, popen=popen, pid=pid, pidfd=pidfd, first_pidfd=first, heard=heard
    )


def _undo(popen: subprocess.Popen[bytes] | None, prepared: Prepared) -> None:
    """Leave nothing of a start that failed, whatever it was doing."""
    prepared.mark.sweep()
    if popen is not None:
        popen.kill()  # it may not have got as far as the mark
        popen.wait(GONE_WITHIN)
        if popen.stdout is not None:
            popen.stdout.close()
    prepared.discard()


def _check_platform(knobs: Knobs) -> None:
    if not hasattr(os, "pidfd_open"):
        raise UsageError("the fake needs Linux (pidfds, and signals from a FIFO's end)")
    if knobs.reuse_pid:
        from .program.stranger import LAST_PID  # noqa: PLC0415  # imports what Windows has not

        if not os.access(LAST_PID, os.W_OK):
            raise UsageError(
                f"reuse_pid=True needs to write {LAST_PID}: as root, or in a pid namespace of its"
                " own (unshare -Urpf --mount-proc)"
            )
    if knobs.survives_kill and (refused := _ptrace_refused()):
        raise UnsupportedError(
            f"survives_kill={knobs.survives_kill:g} needs ptrace, which is denied here"
            f" ({os.strerror(refused)})"
        )
    if knobs.topology == "leaderless" and not leaderless.supported():
        machines = ", ".join(leaderless.SYS_EXIT)
        raise UsageError(
            f'topology="leaderless" is not possible on {os.uname().machine}: known are {machines}'
        )


@cache
def _ptrace_refused() -> int:
    """The errno by which the kernel refuses that a process is traced by its child; 0: it may be."""
    ask = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
        "from program.tracer import trace; sys.exit(trace(0.0, None, None))"
    )
    command = [*programfile.argv(Path("-c")), ask]
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=False, timeout=30).returncode


def _await(
    popen: subprocess.Popen[bytes], first: int, prepared: Prepared
) -> tuple[int, int, bytes]:
    """Return the VM's pid, a pidfd of it, and what was heard after readiness."""
    ready, directory = prepared.ready, prepared.directory
    pidfd = -1
    try:
        deadline = clock.monotonic() + READY_WITHIN
        poll = select.poll()
        poll.register(ready, select.POLLIN)
        poll.register(first, select.POLLIN)
        text, pid = b"", 0
        while True:
            left = deadline - clock.monotonic()
            events = dict(poll.poll(max(0.0, left) * 1000))
            if ready in events:
                text += os.read(ready, 4096)
            *lines, rest = text.split(b"\n")
            for number, line in enumerate(lines):
                word, _, value = line.partition(b" ")
                if word == b"pid" and pidfd < 0:
                    pid = int(value)
                    pidfd = open_vm(pid, prepared.mark)
                elif word == b"ready" and pidfd >= 0:
                    pidfd_kept, pidfd = pidfd, -1
                    return pid, pidfd_kept, b"\n".join([*lines[number + 1 :], rest])
            if first in events:
                raise StartError(
                    account(f"ended ({_status(popen)}) before it was ready", directory)
                )
            if left <= 0:
                raise StartError(account(f"was not ready after {READY_WITHIN:g} s", directory))
    finally:
        if pidfd >= 0:
            os.close(pidfd)


def open_vm(pid: int, mark: Mark) -> int:
    """Return a pidfd of a process that says it is the fake, or -1 when it has gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return -1
    if mark.holds(pid):
        return pidfd
    os.close(pidfd)
    return -1


def _status(popen: subprocess.Popen[bytes]) -> str:
    code = popen.wait()
    return f"status {code}" if code >= 0 else f"signal {-code}"


def account(what: str, directory: Path) -> str:
    """Return what happened, with everything that the fake left behind about it."""
    kept = directory / "stderr"  # not of one that somebody else has started
    stderr = kept.read_text(encoding="utf-8", errors="replace").strip() if kept.exists() else ""
    tail = [str(entry) for entry in Journal(directory / "journal").entries()[-5:]]
    journal = "\n  ".join(tail) or "(empty)"
    return (
        f"the fake in {directory} {what}\n"
        f"stderr:\n  {escape(stderr) or '(empty)'}\njournal:\n  {journal}"
    )
