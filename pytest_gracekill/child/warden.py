"""Commands of which nothing outlives the run: each runs below a warden of its own.

The warden (`program/warden.py`) is a subreaper that ends everything below it when this process asks
for it, or ends in whatever way: the FIFO between the two is closed by the kernel then.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gracekill import clock
from pytest_gracekill.errors import StartError, WardenLostError
from pytest_gracekill.legible import escape, single_line

from . import programfile, strays
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
_LONGEST_COMMAND = 100
_SIGKILL = 9


class RunError(StartError):
    """The command cannot be run; the text is the reason, as `os.strerror` has it."""


class Guarded:
    """A command that runs below a warden; started by the constructor.

    That raises RunError, or another StartError when there is no warden.
    ``lost`` says that somebody has killed the warden, and with it what the command had started.
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
        self.lost: str | None = None
        #: The process that the command, and everything that it has started, is a descendant of.
        self.warden_pid = 0
        self._command = single_line(shlex.join(command), _LONGEST_COMMAND)
        self._hearing = threading.Lock()
        self._struck = self._silent = self._over = self._killed = False
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
            self._await_begin()
        except BaseException:
            self.end()
            raise

    def __repr__(self) -> str:
        return f"<Guarded {self.output.stem}: {'runs' if self.code is None else self.code}>"

    def _await_begin(self) -> None:
        deadline = clock.monotonic() + _STARTS_WITHIN
        while not self.pid:
            if not self._hear(deadline):
                raise StartError(f"{self._command}: not begun after {_STARTS_WITHIN:g} s")
            if self._refused:
                raise RunError(os.strerror(self._refused))
            if self.lost is not None and not self.pid:
                if self._killed:
                    raise WardenLostError(self.lost)
                raise StartError(f"{self._command}: its warden ended before it had begun")

    @property
    def warden(self) -> int:
        """The pid of the warden, which is no part of what is tested."""
        return self._warden.pid

    def wait(self, timeout: float) -> int:
        """Wait for the end of the command itself; its status, negative for a signal.

        :param timeout: in seconds.
        :raises TimeoutError: it still runs.
        :raises WardenLostError: somebody has killed its warden.
        """
        deadline = clock.monotonic() + timeout
        while self.code is None:
            if self.lost is not None:
                raise WardenLostError(self.lost)
            if not self._hear(deadline):
                raise TimeoutError(f"{self.output.stem} still runs after {timeout:g} s")
        return self.code

    @property
    def ended(self) -> bool:
        """Whether the command itself has ended; what it has left behind may run on."""
        self._hear(clock.monotonic())
        return self.code is not None or self.lost is not None

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

    def strike(self) -> None:
        """End the command and everything below it at once; from any thread."""
        self._struck = True
        self._mark.release()

    def end(self) -> None:
        """Ask everything below to end, then kill it. Idempotent.

        :raises subprocess.TimeoutExpired: something is still there after 15 s.
        """
        assert self._warden.stdout is not None
        if self._warden.stdout.closed:
            return
        while self._hear(clock.monotonic()):
            pass  # what has been reported before this end
        self._struck = True
        self._mark.sweep()
        deadline = clock.monotonic() + GONE_WITHIN
        try:
            while not self._silent:  # the warden, and the process behind it
                if not self._hear(deadline):
                    raise subprocess.TimeoutExpired(self._command, GONE_WITHIN)
            self._warden.wait(max(0.1, deadline - clock.monotonic()))
            if not self._over and strays.end(self._mark.path, self._mark.born, GONE_WITHIN):
                raise subprocess.TimeoutExpired(self._command, GONE_WITHIN)
        finally:
            self._mark.release()
            with contextlib.suppress(FileNotFoundError):
                self._mark.path.unlink()
            self._warden.stdout.close()

    def _hear(self, deadline: float) -> bool:
        """Take the next report; False when there was none until the deadline, or none can come."""
        assert self._warden.stdout is not None
        if self._warden.stdout.closed or self._silent:
            return False
        fd = self._warden.stdout.fileno()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(max(deadline - clock.monotonic(), 0.0) * 1000):
            return False
        with self._hearing:
            if not poll.poll(0):
                return True  # another thread has taken it
            heard = os.read(fd, 4096)
            *lines, self._text = (self._text + heard).split(b"\n")
            for line in lines:
                word, *values = line.split()
                self._note(word, [int(value) for value in values])
            if not heard:
                self._note_end()
        return True

    def _note(self, word: bytes, values: list[int]) -> None:
        if word == b"pid":
            self.pid, self.warden_pid = values
        elif word == b"refused":
            (self._refused,) = values
        elif word == b"ended":
            self.code, self.ended_ns = values
        elif word == b"lost":
            self._killed = values[0] < 0
            self._note_loss(_how(values[0]))
        elif word == b"over":
            self._over = True

    def _note_end(self) -> None:
        """Nobody is left to report."""
        self._silent = True
        if not self._over and self.lost is None:
            self._note_loss("")
        if self.code is None and self.lost is None:
            # by us, with the warden
            self.code, self.ended_ns = -_SIGKILL, clock.monotonic_ns()

    def _note_loss(self, how: str) -> None:
        # a warden that we have ended is not lost
        if not self._struck:
            self.lost = f"the warden of {self._command} was killed by another process{how}"


def _how(status: int) -> str:
    if status > 0:
        return f", or failed (status {status})"
    try:
        return f" ({signal.Signals(-status).name})"
    except ValueError:
        return f" (signal {-status})"
