"""A fake that somebody else starts: a manager, a worker of multiprocessing, an external command.

`Child` is what an adapter gets, to start it; `Unstarted` is the harness's side, which hears by a
FIFO when, as which process, and how often that has happened. It cannot see a start that was given
up before the fake's own code ran.
"""

from __future__ import annotations

import itertools
import os
import select
import shlex
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Protocol

from pytest_gracekill import clock
from pytest_gracekill.errors import StartError, UsageError

from . import mark as marks
from . import programfile
from .handle import FakeQemu
from .journal import Journal
from .launch import GONE_WITHIN, OWN, READY_WITHIN, Launched, account, new_folder, open_vm, prepare

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .knobs import Knobs

_numbers = itertools.count(1)

#: Seconds that a start which has been reported by nobody may take to show.
SHOWS_WITHIN = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A start of the fake: its pid, its parent, when it was reported, and what came before.

    ``by`` names the parent. ``starter`` is who ran the program: the wrapper's parent, where the
    fake itself has put a wrapper between. ``again``: the VM that was started first had ended.
    """

    pid: int
    parent: int
    by: str
    starter: int
    at_ns: int
    again: bool

    def __str__(self) -> str:
        return f"pid {self.pid} by {self.by}"


class Adapter(Protocol):
    """Who starts the fake, and where that was named."""

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str: ...


class Target:
    """The fake as a callable without parameters, for workers of multiprocessing; it never returns.

    It can be pickled. The process that calls it becomes the fake, without exec.
    """

    def __init__(self, literals: Mapping[str, object]) -> None:
        self._literals = dict(literals)

    def __call__(self) -> NoReturn:
        from .program.boot import main  # noqa: PLC0415 - in the worker, not in pytest
        from .program.configuration import Configuration  # noqa: PLC0415

        main(Configuration(**self._literals))

    def __repr__(self) -> str:
        return f"<fake QEMU in {self._literals['disk']}>"


class Child:
    """The fake, not yet started: what a routine with the parameter ``child`` gets.

    Start one of ``argv`` (a command as a list), ``cmdline`` (the same, quoted for a shell),
    ``program`` (an executable that needs no argument, and tolerates QEMU's) or ``target`` (a
    callable for ``multiprocessing``), once. ``dir`` is a folder of the manager's own: no file of
    the fake is in it. Outside of it are ``pid_file``, which the fake writes as QEMU does with
    ``-pidfile``, its disk ``image``, its ``journal``, and ``qmp``, the path of the QMP socket, with
    the knob ``qmp=True``.
    """

    def __init__(self, unstarted: Unstarted) -> None:
        prepared = unstarted.prepared
        self._unstarted = unstarted
        self.argv: list[str] = programfile.argv(prepared.program)
        self.cmdline: str = shlex.join(self.argv)
        self.program: str = str(prepared.program)
        self.target = Target(prepared.literals)
        self.dir: Path = new_folder(prepared.directory, OWN)
        self.pid_file: Path = prepared.directory / "pid"
        self.image: Path = prepared.directory / "disk"
        self.journal = Journal(prepared.directory / "journal")
        self.qmp: str | None = None if prepared.qmp is None else str(prepared.qmp)

    def __repr__(self) -> str:
        return f"<Child {self.program}>"

    @property
    def pid(self) -> int:
        """The VM's own pid, also behind a shell or a wrapper; StartError before it has started."""
        __tracebackhide__ = True
        pid = self._unstarted.pid
        if pid is None:
            raise StartError(
                f"the fake in {self._unstarted.prepared.directory} has not told its pid yet: it was"
                " not started, or only just now; child.wait_ready() waits for it"
            )
        return pid

    def wait_ready(self, timeout: float = READY_WITHIN) -> None:
        """Wait until the VM that somebody has started is ready.

        :param timeout: in seconds.
        :raises StartError: it is not; the text has what it left behind.
        """
        __tracebackhide__ = True
        self._unstarted.wait_ready(timeout)


class Unstarted:
    """Watches for the start of one fake; `vm` is its handle from then on."""

    def __init__(self, knobs: Knobs, directory: Path) -> None:
        self.prepared = prepare(knobs, directory)
        #: The starts, in their order: the first is that of the VM.
        self.starts: list[Started] = []
        self.vm: FakeQemu | None = None
        self._news = threading.Condition()
        self._pidfd = -1
        self._told, self._telling = os.pipe()
        self._thread = threading.Thread(
            target=self._watch, name=f"gracekill:start-{next(_numbers)}", daemon=True
        )
        self._thread.start()
        self.child = Child(self)

    @property
    def pid(self) -> int | None:
        """The VM's pid, once it has told; with several starts, the first."""
        with self._news:
            return self.starts[0].pid if self.starts else None

    @property
    def parent(self) -> int | None:
        """The pid of the process that started the VM; None before that."""
        with self._news:
            return self.starts[0].parent if self.starts else None

    def restarts(self) -> list[Started]:
        """The starts that came when the VM had ended."""
        with self._news:
            return [start for start in self.starts if start.again]

    def wait_restarted(self, timeout: float) -> bool:
        """Wait for a start that comes when the VM has ended."""
        with self._news:
            return self._news.wait_for(lambda: any(s.again for s in self.starts), timeout)

    def wait_started(self, timeout: float) -> bool:
        """Wait until the fake's own code runs somewhere."""
        with self._news:
            return self._news.wait_for(lambda: bool(self.starts), timeout)

    def wait_ready(self, timeout: float) -> None:
        __tracebackhide__ = True
        deadline = clock.monotonic() + timeout
        with self._news:
            while self.vm is None:
                left = deadline - clock.monotonic()
                if left <= 0:
                    raise StartError(account(f"was not ready after {timeout:g} s", self._folder))
                if self.starts and self._gone():
                    raise StartError(account("ended before it was ready", self._folder))
                # its end is no event here: looked for now and then, while readiness is
                self._news.wait(min(left, 0.05))

    def ready_vm(self, timeout: float) -> FakeQemu:
        """The handle of the VM that was started, when it is ready.

        :raises StartError: it is not ready in time, or has ended before.
        """
        self.wait_ready(timeout)
        assert self.vm is not None
        return self.vm

    def check_started_once(self, by: Adapter, *, called: bool = False) -> None:
        """See that there was one start; from the call on, a start after the VM's end is a finding.

        :raises UsageError: it was started a second time.
        """
        with self._news:
            pids = [start.pid for start in self.starts if not (called and start.again)]
        if len(pids) > 1:
            raise UsageError(
                f"the adapter {by.name} started the fake {len(pids)} times"
                f" (pids {', '.join(map(str, pids))});"
                " an adapter starts it once",
                source=by.source,
            )

    def close(self) -> None:
        """End the fake, if it was started, and give back everything; idempotent."""
        if self._telling < 0:
            return
        # a byte: a forked child of ours, as a worker of multiprocessing is, has this end open, too
        os.write(self._telling, b".")
        self._thread.join(READY_WITHIN)
        os.close(self._telling)
        self._telling = -1
        os.close(self._told)
        if self.vm is not None:
            self.vm.close()
            return
        self.prepared.discard()
        if self._pidfd >= 0:
            marks.await_end(self._pidfd, GONE_WITHIN)  # no zombie stays of a manager that forgot it
            os.close(self._pidfd)

    @property
    def _folder(self) -> Path:
        return self.prepared.directory

    def _gone(self) -> bool:
        poll = select.poll()
        if self._pidfd < 0:
            return True
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self.prepared.ready, select.POLLIN)
        poll.register(self._told, select.POLLIN)  # it is over
        text = b""
        while True:
            events = dict(poll.poll())
            if self.prepared.ready in events:
                text += os.read(self.prepared.ready, 4096)
                *lines, text = text.split(b"\n")
                with self._news:
                    for line in lines:
                        self._hear(line)
                    self._news.notify_all()
            elif self._told in events:
                return

    def _hear(self, line: bytes) -> None:
        word, _, value = line.partition(b" ")
        if word == b"pid":
            pid = int(value)
            parent, by = marks.parent_of(pid)
            wrapped = self.prepared.knobs.topology == "wrapped"
            self.starts.append(
                Started(
                    pid=pid,
                    parent=parent,
                    by=by,
                    starter=marks.parent_of(parent)[0] if wrapped else parent,
                    at_ns=clock.monotonic_ns(),
                    again=bool(self.starts) and self._gone(),
                )
            )
            if len(self.starts) == 1:
                self._pidfd = open_vm(pid, self.prepared.mark)
        elif word == b"ready" and self.vm is None and self._pidfd >= 0:
            self.vm = FakeQemu(
                Launched(
                    prepared=self.prepared,
                    popen=None,
                    pid=self.starts[0].pid,
                    pidfd=self._pidfd,
                    first_pidfd=-1,
                    heard=b"",
                )
            )
