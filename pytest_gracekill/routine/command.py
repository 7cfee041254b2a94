"""An `External` in use: its files are written, its commands run, and what they leave is ended.

Signals of other processes are not seen here; the VM's journal has those that reach it.
"""

from __future__ import annotations

import itertools
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gracekill.data.requests import signal_name
from pytest_gracekill.errors import StartError, UsageError, WardenLostError
from pytest_gracekill.routine.fields import Values, filled, filled_words, shown
from pytest_gracekill.witness.process_tree import CommandSeen, below

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_gracekill.child.handle import FakeQemu
    from pytest_gracekill.child.unstarted import Unstarted
    from pytest_gracekill.child.warden import Guarded
    from pytest_gracekill.routine.external import External

_HOUR = 3600.0
#: Lines of the output of a command that hangs.
_LINES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a stop command ended: its status, negative for a signal, and the end of its output."""

    returncode: int
    output: str

    def __str__(self) -> str:
        return f"exit {self.returncode}{': ' if self.output else ''}{self.output}"

    @property
    def ok(self) -> bool:
        """Whether the command claims success."""
        return self.returncode == 0


class Command:
    """An `External` in use; ``unstarted`` is the fake that its ``start`` is to start.

    ``source`` is where it came from. ``stop`` may be called by several threads at once.
    """

    def __init__(self, external: External, unstarted: Unstarted | None, source: str) -> None:
        self._external = external
        self._unstarted = unstarted
        self._source = source
        self._values: Values = {}
        self._directory = self._logs = Path()
        self._started: Guarded | None = None
        # with the name of the thread that has called it
        self._stops: list[tuple[str, Guarded]] = []
        self._numbers = itertools.count(1)
        self._over = False
        self._lock = threading.Lock()

    def begin(self, vm: FakeQemu | None) -> None:
        """Write the files, and start what starts the VM; it may not be ready yet."""
        from pytest_gracekill.child.launch import (  # noqa: PLC0415 - only for those who run
            OWN,
            new_folder,
        )

        child = None if self._unstarted is None else self._unstarted.child
        if child is not None:
            assert self._unstarted is not None
            folder = self._unstarted.prepared.directory
            self._directory = child.dir
            self._values = {"argv": child.argv, "program": child.program}
            pid_file, qmp = child.pid_file, child.qmp
        else:
            assert vm is not None
            folder = vm.dir
            self._directory = new_folder(folder, OWN)
            self._values = {"pid": str(vm.started_pid)}
            pid_file, qmp = vm.pid_file, vm.qmp
        self._logs = new_folder(folder, "commands")
        self._values["dir"] = str(self._directory)
        self._values["pid_file"] = str(pid_file)
        if qmp is not None:
            self._values["qmp"] = qmp
        for name, text in self._external.files.items():
            self._write(name, text)
        if self._external.start is not None:
            self._started = self._run(self._external.start, "start")

    @property
    def lost(self) -> str | None:
        """That somebody has killed the warden of one of the commands, so that nothing is known."""
        with self._lock:
            guarded = [stop for _, stop in self._stops]
        if self._started is not None:
            guarded.insert(0, self._started)
        return next((each.lost for each in guarded if each.ended and each.lost is not None), None)

    def check_start(self, vm_pid: int | None) -> None:
        """See that the start command has not failed; asked before anything is to be stopped.

        :param vm_pid: a start command that has become the VM is judged as that.
        :raises StartError: it has ended with another status than 0, and so has not started the VM.
        :raises WardenLostError: somebody has killed what watches over it.
        """
        if (lost := self.lost) is not None:
            raise WardenLostError(lost)
        if self._failed_start(vm_pid) is not None:
            raise StartError(f"{self.told_by_start()} (from {self._source})")

    def failed_meanwhile(self, vm_pid: int, stamp: Callable[[int], str]) -> str | None:
        """How the start command has ended since, when that was not with status 0."""
        at_ns = self._failed_start(vm_pid)
        return None if at_ns is None else self.told_by_start(f" at {stamp(at_ns)}")

    def _failed_start(self, vm_pid: int | None) -> int | None:
        """When it has ended with another status than 0."""
        started = self._started
        if started is None or started.pid == vm_pid or not started.ended or not started.code:
            return None
        return started.ended_ns

    def told_by_start(self, when: str = "") -> str:
        """What has become of the start command, and what it says; nothing where there is none."""
        started = self._started
        if started is None:
            return ""
        how = "runs"
        if started.ended and started.code is not None:
            by_signal = started.code < 0
            how = (
                f"ended by {signal_name(-started.code)}"
                if by_signal
                else (f"ended with status {started.code}")
            )
        said = started.tail() or "it printed nothing"
        return f"start={shown(self._external.start)!r} {how}{when}: {said}"

    def stop(self) -> Ended:
        """Run the stop command to its end.

        :raises UsageError: it cannot be run.
        :raises WardenLostError: somebody has killed what watches over it, or over the start.
        """
        if self._unstarted is not None:
            self._values["pid"] = str(self._unstarted.child.pid)
        running = self._run(self._external.stop, f"stop-{next(self._numbers)}")
        with self._lock:
            self._stops.append((threading.current_thread().name, running))
            over = self._over
        if over:
            running.strike()
        code = running.wait(_HOUR)  # the trial's watchdog is sooner
        # not those of other calls: a report that is taken here would be missed by who waits for it
        if not over and (lost := _lost(running) or _lost(self._started)) is not None:
            raise WardenLostError(lost)
        return Ended(returncode=code, output=running.tail())

    @property
    def wardens(self) -> frozenset[int]:
        """The processes of ours below which the commands run."""
        stops = {running.warden for _, running in self._stops}
        return frozenset(stops if self._started is None else {*stops, self._started.warden})

    def free(self) -> None:
        """End what the stop commands do, at once, and those to come; from any thread."""
        with self._lock:
            self._over = True
            running = list(self._stops)
        for _, stop in running:
            stop.strike()

    def seen(self, actor: str) -> CommandSeen | None:
        """What the stop command of a thread has printed, and what it does now, if it runs."""
        with self._lock:
            called = [stop for caller, stop in self._stops if caller == actor]
        if not called:
            return None
        return CommandSeen(
            output=called[-1].printed(_LINES), processes=below(called[-1].warden_pid)
        )

    def end(self) -> None:
        """End everything that the commands have left: each, also when one does not end."""
        with ExitStack() as stack:
            if self._started is not None:
                stack.callback(self._started.end)
            for _, running in self._stops:
                stack.callback(running.end)

    def _write(self, name: str, text: str) -> None:
        path = self._directory / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(filled(text, self._values), encoding="utf-8", errors="surrogateescape")
            if text.startswith("#!"):
                path.chmod(0o755)
        except (OSError, UnicodeError) as error:
            raise UsageError(
                f"files[{name!r}]: it cannot be written ({error})", source=self._source
            ) from None

    def _run(self, command: str | Sequence[str], name: str) -> Guarded:
        from pytest_gracekill.child.warden import (  # noqa: PLC0415 - only for those who run
            Guarded,
            RunError,
        )

        words = filled_words(command, self._values)
        try:
            return Guarded(words, self._logs, name)
        except RunError as error:
            raise UsageError(
                f"{name.partition('-')[0]}={shown(command)!r}: {words[0]!r} cannot be run: {error}",
                source=self._source,
            ) from None


def _lost(command: Guarded | None) -> str | None:
    """That somebody has killed the warden of this command; None where it has not ended so."""
    return command.lost if command is not None and command.ended else None
