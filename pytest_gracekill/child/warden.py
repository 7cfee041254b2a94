"""Commands of which nothing outlives the run: each runs below a warden of its own.

The warden (`program/warden.py`) is a subreaper that ends everything below it when this process asks
for it, or ends in whatever way: the FIFO between the two is closed by the kernel then.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gracekill import clock
from pytest_gracekill.errors import StartError
from pytest_gracekill.legible import escape, single_line

from . import programfile
from .mark import Mark

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROGRAM = Path(__file__).parent / "program" / "warden.py"

#: Seconds that a warden has to end what is below it: its own politeness, and a busy machine.
GONE_WITHIN = 15.0
_STARTS_WITHIN = 15.0
#: Bytes at the end of the output that are looked at.
_TAIL = 16_384
#: Characters of one line of it that are told.
_LONGEST = 300


class RunError(StartError):
    """The command cannot be run; the text is the reason, as `os.strerror` has it."""


class Guarded:
    """A command that runs below a warden; started by the constructor.

    That raises RunError, or another StartError when there is no warden.
    ``name`` tells the files of several commands in one directory apart; ``output`` is where the
    command's standard output and error go, a file, so that nobody who holds it open is waited for.
    """

    def __init__(self, command: Sequence[str], directory: Path, name: str) -> None:
        self.output = directory / f"{name}.log"
        self.output.write_bytes(b"")
        #: The command's own pid; 0 before it has begun.
        self.pid = 0
        self.code: int | None = None
        #: When the command itself ended, in nanoseconds of CLOCK_MONOTONIC.
        self.ended_ns: int | None = None
        self._mark = Mark(directory / f"{name}.mark")
        self._text = b""
        self._refused = 0
        try:
            self._warden = subprocess.Popen(
                [*programfile.argv(_PROGRAM), str(self._mark.path), str(self.output), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        except BaseException:
            self._mark.release()
            raise
        try:
            self._await_begin(command)
        except BaseException:
            self.end()
            raise

    def __repr__(self) -> str:
        return f"<Guarded {self.output.stem}: {'runs' if self.code is None else self.code}>"

    def _await_begin(self, command: Sequence[str]) -> None:
        deadline = clock.monotonic() + _STARTS_WITHIN
        while not self.pid:
            if not self._hear(deadline):
                raise StartError(f"{shlex.join(command)}: not begun after {_STARTS_WITHIN:g} s")
            if self._refused:
                raise RunError(os.strerror(self._refused))
            if self.code is not None and not self.pid:
                raise StartError(f"{shlex.join(command)}: its warden ended before it had begun")

    @property
    def warden(self) -> int:
        """The pid of the warden, which is no part of what is tested."""
        return self._warden.pid

    def wait(self, timeout: float) -> int:
        """Wait for the end of the command itself; its status, negative for a signal.

        :param timeout: in seconds.
        :raises TimeoutError: it still runs.
        """
        deadline = clock.monotonic() + timeout
        while self.code is None:
            if not self._hear(deadline):
                raise TimeoutError(f"{self.output.stem} still runs after {timeout:g} s")
        return self.code

    @property
    def ended(self) -> bool:
        """Whether the command itself has ended; what it has left behind may run on."""
        self._hear(clock.monotonic())
        return self.code is not None

    def tail(self) -> str:
        """The last lines of what it has printed, in one line."""
        return "; ".join(self.printed(3))

    def printed(self, number: int) -> tuple[str, ...]:
        """The last lines of what it has printed, at most ``number``, without those that are empty.

        Only the end of the file is read: a command may print without an end. Control characters
        are escaped, and a line that is long is cut.
        """
        with self.output.open("rb") as output:
            size = output.seek(0, os.SEEK_END)
            output.seek(max(0, size - _TAIL))
            text = output.read().decode(errors="replace")
        lines = [single_line(escape(line), _LONGEST) for line in text.split("\n")]
        return tuple([line for line in lines if line][-number:])

    @property
    def warden_pid(self) -> int:
        """The process that the command, and everything that it has started, is a descendant of."""
        return self._warden.pid

    def strike(self) -> None:
        """End the command and everything below it at once; from any thread."""
        self._mark.release()

    def end(self) -> None:
        """Ask everything below to end, then kill it. Idempotent.

        :raises subprocess.TimeoutExpired: something is still there after 15 s.
        """
        self._mark.sweep()
        try:
            self._warden.wait(GONE_WITHIN)
        finally:
            self._mark.release()
            with contextlib.suppress(FileNotFoundError):
                self._mark.path.unlink()
            if self._warden.stdout is not None and not self._warden.stdout.closed:
                self._hear(clock.monotonic())
                self._warden.stdout.close()

    def _hear(self, deadline: float) -> bool:
        """Take the next report; False when there was none until the deadline."""
        assert self._warden.stdout is not None
        if self._warden.stdout.closed:
            return False
        fd = self._warden.stdout.fileno()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(max(deadline - clock.monotonic(), 0.0) * 1000):
            return False
        heard = os.read(fd, 4096)
        if not heard and self.code is None:
            self.code = -9  # the warden has ended, and what was below it with it
            self.ended_ns = clock.monotonic_ns()
        *lines, self._text = (self._text + heard).split(b"\n")
        for line in lines:
            word, _, value = line.partition(b" ")
            if word == b"pid":
                self.pid = int(value)
            elif word == b"refused":
                self._refused = int(value)
            elif word == b"ended":
                code, _, at_ns = value.partition(b" ")
                self.code, self.ended_ns = int(code), int(at_ns)
        return bool(heard) or self.code is not None
