"""Which processes were started during a trial, by whom, and what became of the thread that did it.

Seen by the audit hook (`signal_audit`): `subprocess`, `os.fork`, `os.forkpty`, `os.posix_spawn` and
`os.system`. `multiprocessing` raises no event where it does not fork; it counts its processes. What
C code has started is seen only while it lives, as a child of this process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gracekill import clock
from pytest_gracekill.data.disturbances import EndedThread, StartedProcess
from pytest_gracekill.legible import escape, single_line
from pytest_gracekill.witness import signal_audit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from types import FrameType

#: Characters of a command that are told.
_LONGEST = 60

#: The file from which `multiprocessing` forks: those are counted by it, too.
_POPEN_FORK = "popen_fork.py"


@dataclass(slots=True)
class _Start:
    """One start as the hook saw it. ``tid``: the kernel's number of the thread that started it."""

    at_ns: int
    event: str
    words: tuple[str, ...]
    actor: str
    tid: int
    counted: bool

    @property
    def text(self) -> str:
        command = " ".join(self.words)
        return escape(single_line(command, _LONGEST)) if command else f"{self.event}()"


@dataclass(slots=True)
class _Thread:
    """A thread that has started a process: when it was seen last, and when it was not any more."""

    alive_ns: int
    gone_ns: int | None = None


class StartWitness:
    """Records the starts of processes while `watching`; ``passes()`` says that the caller is ours.

    `tick` is to be called every few milliseconds.
    """

    def __init__(self, passes: Callable[[], bool]) -> None:
        self._passes = passes
        self._owner = os.getpid()
        self._starts: list[_Start] = []
        # by the kernel's number; the main thread lives as long as the process
        self._threads: dict[int, _Thread] = {}
        self._counted_before = _counted()

    def __repr__(self) -> str:
        return f"<StartWitness: {len(self._starts)} starts>"

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record what is started within."""
        with signal_audit.starts_watched(self._note):
            yield

    def _note(self, event: str, arguments: tuple[object, ...], frame: FrameType) -> None:
        file = frame.f_code.co_filename
        if os.getpid() != self._owner or self._passes():
            return
        if event == "os.posix_spawn" and file == subprocess.__file__:
            return  # that of a Popen, which has raised an event of its own
        now, tid = clock.monotonic_ns(), threading.get_native_id()
        self._starts.append(
            _Start(
                at_ns=now,
                event=event,
                words=_words(event, arguments),
                actor=threading.current_thread().name,
                tid=tid,
                counted=file.endswith(_POPEN_FORK),
            )
        )
        if tid != self._owner:
            self._threads[tid] = _Thread(alive_ns=now)

    def tick(self) -> None:
        """Note which threads that have started a process live."""
        for tid, thread in tuple(self._threads.items()):
            if thread.gone_ns is None:
                now = clock.monotonic_ns()
                if os.path.exists(f"/proc/self/task/{tid}"):  # noqa: PTH110 - every 10 ms
                    thread.alive_ns = now
                else:
                    thread.gone_ns = now

    def others(
        self, program: str | None, vm_started_ns: int | None, not_by: Collection[str]
    ) -> tuple[StartedProcess, ...]:
        """The processes that were started, without the VM itself.

        :param program: the path of the VM's program, where it is started within the trial.
        :param vm_started_ns: when this process started the VM, None if another one did.
        :param not_by: the names of threads that are no part of the routine nor of its adapter.
        """
        own = self._start_of_vm(program, vm_started_ns)
        found = [
            StartedProcess(at_ns=start.at_ns, text=start.text)
            for start in self._starts
            if start is not own and start.actor not in not_by
        ]
        # multiprocessing counts those that it forks, too, and the hook has seen them
        uncounted = _counted() - self._counted_before - sum(s.counted for s in self._starts)
        if own is None and vm_started_ns is not None:
            uncounted -= 1
        if uncounted > 0:
            found.append(StartedProcess(at_ns=None, text="a multiprocessing.Process"))
        return tuple(found)

    def thread_of_vm(self, program: str | None, vm_started_ns: int | None) -> EndedThread | None:
        """The thread that forked the VM; None while it lives, or where it was the main thread."""
        own = self._start_of_vm(program, vm_started_ns)
        thread = None if own is None else self._threads.get(own.tid)
        if own is None or thread is None:
            return None
        self.tick()
        if thread.gone_ns is None:
            return None
        return EndedThread(name=own.actor, alive_ns=thread.alive_ns, gone_ns=thread.gone_ns)

    def _start_of_vm(self, program: str | None, vm_started_ns: int | None) -> _Start | None:
        if program is None or vm_started_ns is None:
            return None
        before = [start for start in self._starts if start.at_ns <= vm_started_ns]
        by_name = [s for s in before if any(program in word for word in s.words)]
        # the VM's `target` is forked, and has no command
        forked = [s for s in before if s.event in ("os.fork", "os.forkpty")]
        found = by_name or forked
        return found[-1] if found else None


def _words(event: str, arguments: tuple[object, ...]) -> tuple[str, ...]:
    """The command of an event, as far as it has one."""
    try:
        match event, arguments:
            case "os.system", (command, *_):
                return (_text(command),)
            case "subprocess.Popen" | "os.posix_spawn", (_, str() | bytes() as command, *_):
                return (_text(command),)
            case "subprocess.Popen" | "os.posix_spawn", (_, list() | tuple() as command, *_):
                return tuple(map(_text, command))
    except Exception:  # noqa: BLE001 - objects of the user's; a hook that raises prevents the start
        return ()
    return ()


def _text(word: object) -> str:
    if isinstance(word, str | bytes | os.PathLike):
        return os.fsdecode(word)
    return str(word)


def _counted() -> int:
    """How many processes `multiprocessing` has made in this process so far."""
    module = sys.modules.get("multiprocessing.process")
    told = repr(getattr(module, "_process_counter", "count(0)"))
    number = told.removeprefix("count(").removesuffix(")")
    return int(number) if number.isdecimal() else 0


def helpers_of_multiprocessing() -> frozenset[int]:
    """The pids of the processes that `multiprocessing` keeps for itself."""
    found = set()
    for name, variable, field in (
        ("multiprocessing.resource_tracker", "_resource_tracker", "_pid"),
        ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid"),
    ):
        pid = getattr(getattr(sys.modules.get(name), variable, None), field, None)
        if isinstance(pid, int):
            found.add(pid)
    return frozenset(found)
