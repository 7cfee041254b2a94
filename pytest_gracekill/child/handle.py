"""A running fake as the trial and the tests see it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
from pathlib import Path

from pytest_gracekill import clock

from . import mark as marks
from .disk import Disk
from .ending import Ending, Exit
from .infrastructure import loss
from .journal import Journal
from .knobs import Knobs
from .launch import GONE_WITHIN, Launched, launch

__all__ = ["Exit", "FakeQemu", "spawn"]

_INFRASTRUCTURE = ("reaped", "zombie", "daemon")


def spawn(knobs: Knobs, directory: Path, *, stdout: int = subprocess.DEVNULL) -> FakeQemu:
    """Start a fake in `directory`, which it gets for itself, and return it ready.

    :param stdout: as of `subprocess.Popen`; the fake writes nothing to it.
    :raises StartError: it did not become ready in time; nothing is left running.
    """
    return FakeQemu(launch(knobs, Path(directory).absolute(), stdout))


class FakeQemu:
    """A fake QEMU that has been started; `spawn` and the fixture `fake_qemu` return it."""

    #: What it is, in messages, and the fixture that starts it.
    _kind = "fake"
    fixture = "fake_qemu"
    #: What it can be asked for when it is started.
    knob_names = frozenset(field.name for field in dataclasses.fields(Knobs))
    #: The topologies in which it is our own child, or a child of that.
    own_child: tuple[str, ...] = ("child", "wrapped", "leaderless")
    #: The process that has started it, where that is a manager's and not ours; else None.
    started_by: str | None = None

    def __init__(
        self,
        launched: Launched,
        *,
        journal: Journal | None = None,
        ending: type[Ending] = Ending,
    ) -> None:
        prepared, directory = launched.prepared, launched.prepared.directory
        self.dir = directory
        self.pid = launched.pid
        self.pidfd = launched.pidfd
        self.journal = Journal(directory / "journal") if journal is None else journal
        self.disk = Disk(directory / "disk", self.journal)
        self.mark = directory / "mark"
        #: Where it writes its pid, as QEMU does with ``-pidfile``; gone after an exit of its own.
        self.pid_file = directory / "pid"
        #: The path of the QMP socket, for `qemu.qmp` or any other client; None without `qmp=True`.
        self.qmp = None if prepared.qmp is None else str(prepared.qmp)
        self._prepared = prepared
        self._mark = prepared.mark
        self._process = launched.popen
        self._first_pidfd = launched.first_pidfd
        self._owner = os.getpid()
        self._closed = False
        self._ending_all = False  # what ends from here on has been ended by us
        self._lost: str | None = None
        #: Whether the end of the VM was seen by this handle: a test that waits for it expects it.
        self.end_seen = False
        self._ending = ending(launched, self.journal)

    @property
    def knobs(self) -> Knobs:
        """What it was asked to be."""
        return self._prepared.knobs

    @property
    def popen(self) -> subprocess.Popen[bytes] | None:
        """Our own child that is the VM, or its wrapper; None where somebody else started it."""
        return None if self.knobs.topology in _INFRASTRUCTURE else self._process

    @property
    def started_pid(self) -> int:
        """The pid that a manager would have got from its start: the wrapper's, if there is one."""
        wrapper = self._process if self.knobs.topology == "wrapped" else None
        return self.pid if wrapper is None else wrapper.pid

    @property
    def stderr(self) -> str:
        """What the fake wrote to its standard error so far."""
        return (self.dir / "stderr").read_text(encoding="utf-8", errors="replace")

    @property
    def alive(self) -> bool:
        """Whether the VM's process runs; a zombie does not."""
        alive = self._ending.alive
        self.end_seen = self.end_seen or not alive
        return alive

    @property
    def exit(self) -> Exit | None:
        """How the VM ended; None while it lives."""
        ended = self._ending.exit
        self.end_seen = self.end_seen or ended is not None
        return ended

    @property
    def fault(self) -> str | None:
        """The fake's own internal error, after which no verdict can be made; None without one."""
        entries = self.journal.entries()
        told = next((entry for entry in entries if entry.event == "fault"), None)
        if told is not None:
            return f"the fake failed: {told.fields.get('text', '')}"
        ended = self._ending.exit
        events = {entry.event for entry in entries}
        # a journal that has no start was damaged from outside: the audit says so
        if ended is None or ended.code is None or "start" not in events or "exit" in events:
            return None
        said = self.stderr.strip().splitlines()[-1:]
        return "; ".join([f"the fake ended with status {ended.code}, for no request", *said])

    @property
    def infrastructure_lost(self) -> str | None:
        """How wrapper, reaper or subreaper ended before it had reaped the VM; None if it has not.

        Who ended it cannot be seen from here: a routine may have signalled the wrapper.
        """
        if not self._ending_all:
            process = self._process
            if process is not None and process.pid != self.pid:
                self._lost = loss(process, self._first_pidfd, self.knobs.topology, self.journal)
        return self._lost

    @property
    def infrastructure_pid(self) -> int | None:
        """The pid of wrapper, reaper or subreaper; None where the VM has none."""
        process = self._process
        return None if process is None or process.pid == self.pid else process.pid

    @property
    def gone_at(self) -> float | None:
        """When its end was seen from outside; ``exit.at`` is what its own journal says."""
        return self._ending.gone_at

    def wait(self, timeout: float | None = None) -> Exit:
        """Wait until the VM has ended. It is not reaped by that.

        :raises TimeoutError: it is still there after `timeout` seconds.
        """
        ended = self._ending.wait(timeout)
        self.end_seen = self.end_seen or ended is not None
        if ended is None:
            state = marks.state(self.pid) or "gone"
            raise TimeoutError(
                f"{self._kind} pid {self.pid} (state {state}) still runs after {timeout} s"
            )
        return ended

    def processes(self) -> list[int]:
        """Return what else of this fake is alive: wrapper and helpers, by the mark."""
        if self._closed:
            return []
        ours = {self.pid}
        if self._infrastructure is not None:
            ours.add(self._infrastructure.pid)
        return [pid for pid in self._mark.holders() if pid not in ours]

    def is_part(self, pid: int) -> bool:
        """Say whether a process has the mark of this fake: the VM, its wrapper, or a helper."""
        return not self._closed and not self.attends(pid) and self._mark.holds(pid)

    def kill(self) -> None:
        """SIGKILL everything of this fake, wait until it is gone, and reap what is ours.

        :raises TimeoutError: something is still there after 10 s; it is named.
        """
        if self._closed or os.getpid() != self._owner:
            return
        self.infrastructure_lost  # noqa: B018  # known from here on
        self._ending_all = True
        self.end_seen = True
        deadline = clock.monotonic() + GONE_WITHIN
        struck: list[int] = []
        try:
            if self._process is not None and self._process.pid != self.pid:
                # somebody may have stopped it, and it has to tell how the VM ended
                self._process.send_signal(signal.SIGCONT)
            if self.knobs.survives_kill:
                self._mark.sweep()  # also who holds it at its exit: the kernel lets it go then
            # the VM first: those who reap it say how it ended, and leave no zombie
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self._ending.wait(deadline - clock.monotonic())
            self._end_infrastructure(deadline)
            struck = [fd for pid in self.processes() if (fd := self._mark.strike(pid)) >= 0]
            self._mark.sweep()
            if not self._mark.gone(deadline - clock.monotonic()):
                raise TimeoutError(
                    f"still there {GONE_WITHIN:g} s after SIGKILL: "
                    + ", ".join(f"pid {pid} ({marks.state(pid)})" for pid in self._mark.holders())
                )
            for pidfd in struck:
                marks.await_end(pidfd, deadline - clock.monotonic())
        finally:
            for pidfd in struck:
                os.close(pidfd)
        if self._process is not None:
            self._process.wait(max(0.1, deadline - clock.monotonic()))

    def attends(self, pid: int) -> bool:
        """Whether this is the process that reaps the VM in somebody else's place."""
        return self._infrastructure is not None and self._infrastructure.pid == pid

    @property
    def _infrastructure(self) -> subprocess.Popen[bytes] | None:
        """The reaper or subreaper, which is no part of what is tested."""
        return self._process if self.knobs.topology in _INFRASTRUCTURE else None

    def _end_infrastructure(self, deadline: float) -> None:
        process = self._infrastructure
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if self.knobs.topology == "zombie" or self.knobs.reuse_pid:
                process.send_signal(signal.SIGUSR1)  # no longer wait
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, min(2.0, deadline - clock.monotonic())))

    def close(self) -> None:
        """End the fake and everything of it, and give back all descriptors.

        The directory stays, with disk, journal and stderr; idempotent.
        """
        if self._closed:
            return
        if os.getpid() != self._owner:
            return  # a forked child of ours: the fake is not its own
        try:
            self.kill()
        finally:
            self.exit  # noqa: B018  # known from here on, without the pidfd
            self._closed = True
            self._mark.release()
            self._ending.join()
            if self._process is None:
                # somebody else's child, or ours by way of a manager that forgot it: no zombie stays
                marks.await_end(self.pidfd, 0)
            os.close(self._prepared.ready)
            os.close(self.pidfd)
            if self._first_pidfd >= 0:
                os.close(self._first_pidfd)
            if self._process is not None and self._process.stdout is not None:
                self._process.stdout.close()
            self._prepared.tidy()

    def __repr__(self) -> str:
        # a look of ours is none of the test's
        ended = self._ending
        state = "alive" if not self._closed and ended.alive else str(ended.exit)
        return f"<{type(self).__name__} pid {self.pid}, {self.knobs.topology}, {state}>"
