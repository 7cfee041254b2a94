"""Starting a fake: its directory, its first process, and the wait until it is ready."""

from __future__ import annotations

import os
import select
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gracekill.errors import StartError, UsageError

from . import disk, programfile
from .journal import Journal
from .mark import Mark
from .program import leaderless

if TYPE_CHECKING:
    from pathlib import Path

    from .knobs import Knobs

READY_WITHIN = 15.0
"""Seconds that a fake has to become ready, on a machine however busy."""

GONE_WITHIN = 10.0
"""Seconds that killed processes have to disappear before that is a fault of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A fake that is ready, as raw parts."""

    knobs: Knobs
    directory: Path
    popen: subprocess.Popen[bytes]
    pid: int
    pidfd: int
    first_pidfd: int  # of `popen`
    mark: Mark
    ready: int
    heard: bytes  # what came by `ready` after the line that says so

    def __str__(self) -> str:
        return f"fake pid {self.pid} in {self.directory}"


def launch(knobs: Knobs, directory: Path, stdout: int) -> Launched:
    """Start a fake in a directory of its own and wait until it is ready.

    :raises StartError: it did not become ready; nothing is left running.
    """
    _check_platform(knobs)
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / programfile.NAME
    if program.exists():
        raise UsageError(f"{directory} has a fake already: each needs a directory of its own")
    image = directory / "disk"
    disk.create(image, blocks=knobs.blocks, block_size=knobs.block_size, seed=knobs.seed)
    mark = Mark(directory / "mark")
    ready = first = -1
    popen = None
    try:
        os.mkfifo(directory / "ready", 0o600)
        # both ends, so that it never reads as ended
        ready = os.open(directory / "ready", os.O_RDWR | os.O_NONBLOCK)
        programfile.write(
            program,
            knobs,
            mark=mark.path,
            ready=directory / "ready",
            journal=directory / "journal",
            disk=image,
            pid_file=directory / "pid",
        )
        with (directory / "stderr").open("wb") as stderr:
            popen = subprocess.Popen(
                programfile.argv(program),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        first = os.pidfd_open(popen.pid)
        pid, pidfd, heard = _await(popen, first, mark, ready, directory)
    except BaseException:
        _undo(popen, mark, directory)
        for fd in (first, ready):
            if fd >= 0:
                os.close(fd)
        raise
    return Launched(
        knobs=knobs,
        directory=directory,
        popen=popen,
        pid=pid,
        pidfd=pidfd,
        first_pidfd=first,
        mark=mark,
        ready=ready,
        heard=heard,
    )


def _undo(popen: subprocess.Popen[bytes] | None, mark: Mark, directory: Path) -> None:
    """Leave nothing of a start that failed, whatever it was doing."""
    mark.sweep()
    if popen is not None:
        popen.kill()  # it may not have got as far as the mark
        popen.wait(GONE_WITHIN)
        if popen.stdout is not None:
            popen.stdout.close()
    mark.gone(GONE_WITHIN)
    mark.release()
    for name in ("mark", "ready"):
        (directory / name).unlink(missing_ok=True)


def _check_platform(knobs: Knobs) -> None:
    if not hasattr(os, "pidfd_open"):
        raise UsageError("the fake needs Linux (pidfds, and signals from a FIFO's end)")
    if knobs.topology == "leaderless" and not leaderless.supported():
        machines = ", ".join(leaderless.SYS_EXIT)
        raise UsageError(
            f'topology="leaderless" is not possible on {os.uname().machine}: known are {machines}'
        )


def _await(
    popen: subprocess.Popen[bytes], first: int, mark: Mark, ready: int, directory: Path
) -> tuple[int, int, bytes]:
    """Return the VM's pid, a pidfd of it, and what was heard after readiness."""
    pidfd = -1
    try:
        deadline = time.monotonic() + READY_WITHIN
        poll = select.poll()
        poll.register(ready, select.POLLIN)
        poll.register(first, select.POLLIN)
        text, pid = b"", 0
        while True:
            left = deadline - time.monotonic()
            events = dict(poll.poll(max(0.0, left) * 1000))
            if ready in events:
                text += os.read(ready, 4096)
            *lines, rest = text.split(b"\n")
            for number, line in enumerate(lines):
                word, _, value = line.partition(b" ")
                if word == b"pid" and pidfd < 0:
                    pid = int(value)
                    pidfd = _open(pid, mark)
                elif word == b"ready" and pidfd >= 0:
                    pidfd_kept, pidfd = pidfd, -1
                    return pid, pidfd_kept, b"\n".join([*lines[number + 1 :], rest])
            if first in events:
                raise StartError(
                    _account(f"ended ({_status(popen)}) before it was ready", directory)
                )
            if left <= 0:
                raise StartError(_account(f"was not ready after {READY_WITHIN:g} s", directory))
    finally:
        if pidfd >= 0:
            os.close(pidfd)


def _open(pid: int, mark: Mark) -> int:
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


def _account(what: str, directory: Path) -> str:
    """Return what happened, with everything that the fake left behind about it."""
    stderr = (directory / "stderr").read_text(encoding="utf-8", errors="replace").strip()
    tail = [str(entry) for entry in Journal(directory / "journal").entries()[-5:]]
    journal = "\n  ".join(tail) or "(empty)"
    return (
        f"the fake in {directory} {what}\nstderr:\n  {stderr or '(empty)'}\njournal:\n  {journal}"
    )
