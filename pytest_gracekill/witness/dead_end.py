"""Waits that nobody can end any more: for a lock of an ended thread, and without anybody to notify.

A lock of an ended thread. An RLock can be released by nobody else. A `Lock` may legally be released
by any thread, so it is waited for a while longer: `CONFIRM` seconds where this very lock has been
given back by its takers before, as a mutex is, `PATIENCE` where nothing is known of it; never where
it, or one of its class, has ever been handed over. What cannot be known: a first hand-over that
comes later than that, from a thread that outlives the taker, is taken for a lock left behind.

A condition without anybody to notify. It is told only when every thread of the process that could
do anything waits for good, and each of these waits leads to a condition that nobody has notified:
one thread that runs, sleeps, waits with a timeout, or stands in something that is not traced is
able to notify, whatever it has done so far, and so is a signal handler of the user's. Threads that
only watch (ours, pytest-timeout's, execnet's) are not. So a contender that goes on working keeps
the finding away: then the call's budget ends it. What cannot be known: a thread that comes from C.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pytest_gracekill.witness.sites import Frame, frames_by_thread
from pytest_gracekill.witness.wait_graph import Awaiting, Deadlock, Waiting

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from types import FrameType

    from pytest_gracekill.witness.wait_graph import ThreadState

#: Seconds from one look at a wait to the next.
LOOK = 0.05
#: Seconds for the hand-over of a lock whose taker has ended, where nothing else is known of it.
PATIENCE = 0.5

#: Threads that never touch what is the user's, by the file that they begin in.
_PACKAGE = Path(__file__).parents[1]
_WATCHING = frozenset(
    str(_PACKAGE / name)
    for name in (
        "child/ending.py",
        "child/unstarted.py",
        "witness/standstill.py",
        "witness/watchdog.py",
        "progress_line.py",
    )
)
_INFRASTRUCTURE = ("execnet", "pytest_timeout", "xdist")
#: Handlers that notify nobody, by the package that has them.
_QUIET = ("_signal", "signal", "asyncio", "faulthandler", "pytest_timeout", "pytest_gracekill")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerEnded:
    """A thread waits for a lock whose owner has ended without releasing it."""

    lock: str
    owner: str
    held_since_ns: int
    taken_at: tuple[Frame, ...]
    thread: str
    waiting_since_ns: int
    waiting_at: tuple[Frame, ...]
    at_ns: int

    @property
    def locks(self) -> tuple[str, ...]:
        """The lock that was left behind."""
        return (self.lock,)

    @property
    def threads(self) -> tuple[str, ...]:
        """Who waits, and who has ended."""
        return (self.thread, self.owner)

    @property
    def advice(self) -> str:
        return "release the lock on every path, also when an exception ends the thread"

    def __str__(self) -> str:
        return f"{self.thread} waits for {self.lock}, which {self.owner} took and never released"

    def describe(self) -> str:
        """Lines for people: who has ended, where it took the lock, who waits where."""
        return "\n".join(
            (
                "deadlock: the owner of a lock has ended",
                f"  {self.owner} has ended and held {self.lock}, taken at",
                *(f"    {frame}" for frame in self.taken_at),
                f"  {self.thread} waits for {self.lock} at",
                *(f"    {frame}" for frame in self.waiting_at),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifierGone:
    """A thread waits for a notification, and nobody is left who could notify.

    ``blocked``: the others, each with what it waits for; ``ended``: threads that used traced locks
    and have ended. ``doing``: what the thread does, where it waits for another thing than a
    condition, such as ``joins worker``.
    """

    condition: str
    thread: str
    waiting_since_ns: int
    waiting_at: tuple[Frame, ...]
    blocked: tuple[str, ...]
    ended: tuple[str, ...]
    at_ns: int
    doing: str = ""

    @property
    def locks(self) -> tuple[str, ...]:
        """The condition that is waited on."""
        return (self.condition,)

    @property
    def threads(self) -> tuple[str, ...]:
        """Who waits."""
        return (self.thread,)

    @property
    def advice(self) -> str:
        what = "end that wait" if self.doing else "notify"
        return f"{what} on every path, also on that of an error, or wait with a timeout"

    def __str__(self) -> str:
        if self.doing:
            return f"{self.thread} {self.doing}, and no thread is left that could end this wait"
        return f"{self.thread} waits on the condition {self.condition}, which nobody can notify"

    def describe(self) -> str:
        """Lines for people: who waits where, and what became of all others."""
        doing = self.doing or f"waits on the condition {self.condition}"
        return "\n".join(
            (
                "deadlock: no thread is left that could end a wait"
                if self.doing
                else "deadlock: the notifier of a condition is gone",
                f"  {self.thread} {doing}{' at' if self.waiting_at else ''}",
                *(f"    {frame}" for frame in self.waiting_at),
                *(f"  {line}" for line in self.blocked),
                *(f"  {name} has ended" for name in self.ended),
            )
        )


AnyDeadlock: TypeAlias = "Deadlock | OwnerEnded | NotifierGone"


def has_ended(state: ThreadState, running: Collection[int] | None = None) -> bool:
    """Tell whether a thread has ended, or has nothing more to do.

    :param running: the identities of the threads that run, where they are known already.
    """
    if state.finished:
        return True
    thread = state.thread()
    if thread is None:
        return True
    if isinstance(thread, threading._DummyThread):  # noqa: SLF001 - started by C, or by _thread
        # it says for ever that it is alive
        return state.ident not in (frames_by_thread() if running is None else running)
    return not thread.is_alive()


def all_blocked(known: Iterable[ThreadState]) -> Mapping[ThreadState, Waiting | Awaiting] | None:
    """Find what each thread waits for, if none can go on and each waits for a notification.

    None when anybody is able to notify, and when a wait is for a lock in a circle or of an ended
    thread: such a wait is broken up by itself, and who is freed by that may notify.
    """
    able = _able_threads()
    latest = {state.ident: state for state in known}
    waits: dict[ThreadState, Waiting | Awaiting] = {}
    for ident in able:
        state = latest.get(ident)
        if state is not None and state.finished:
            continue
        wait = None if state is None or has_ended(state, able) else _blocked_on(state)
        if state is None or wait is None:
            return None
        waits[state] = wait
    if any(not _leads_to_a_condition(state, waits) for state in waits) or _handlers_may_notify():
        return None
    return waits


def ended_names(known: Iterable[ThreadState]) -> tuple[str, ...]:
    """Name the threads that have ended, each once."""
    return tuple(dict.fromkeys(state.name for state in known if has_ended(state)))


def _blocked_on(state: ThreadState) -> Waiting | Awaiting | None:
    """What a thread waits for without a timeout; a lock first, which only a signal handler adds."""
    waiting, awaiting = state.waiting, state.awaiting
    if waiting is not None:
        return None if waiting.timed else waiting
    # notified already: about to go on
    return awaiting if awaiting is not None and awaiting.waiter.locked() else None


def _leads_to_a_condition(
    state: ThreadState, waits: Mapping[ThreadState, Waiting | Awaiting]
) -> bool:
    visited = set()
    while state not in visited:
        visited.add(state)
        wait = waits.get(state)
        if isinstance(wait, Awaiting):
            return True
        hold = None if wait is None else wait.lock.hold
        if hold is None:
            return False  # a semaphore, or a lock that changes hands just now
        state = hold[0]
    return False


def _able_threads() -> frozenset[int]:
    """The identities of all threads that could have to do with a condition of the user's."""
    frames = frames_by_thread()
    try:
        return frozenset(ident for ident in frames if not _only_watches(ident, frames[ident]))
    finally:
        # one of them is our own: nothing may be kept that refers back to it
        frames.clear()


def _only_watches(ident: int, frame: FrameType) -> bool:
    """Whether a thread can have nothing to do with the user's condition."""
    outermost = ""
    at: FrameType | None = frame
    while at is not None:
        if at.f_code.co_filename != threading.__file__:
            outermost = at.f_code.co_filename
        at = at.f_back
    if not outermost:
        # a Timer that has not fired has no frame of anybody's; pytest-timeout's has a name
        thread = threading._active.get(ident)  # type: ignore[attr-defined] # noqa: SLF001 - enumerate() takes a lock, whose owner may be one of these threads
        return thread is not None and thread.name.startswith("pytest_timeout ")
    return outermost in _WATCHING or any(
        f"{os.sep}{package}" in outermost and _is_of(package, outermost)
        for package in _INFRASTRUCTURE
    )


def _is_of(package: str, file: str) -> bool:
    module = sys.modules.get(package)
    home = getattr(module, "__file__", None)
    if home is None:
        return False
    return file == home or (
        os.path.basename(home) == "__init__.py"  # noqa: PTH119 - strings, in a look every 50 ms
        and file.startswith(home.removesuffix("__init__.py"))
    )


def _handlers_may_notify() -> bool:
    """Whether there is a signal handler in Python that is not known to keep quiet."""
    for signum in signal.valid_signals():
        handler = signal.getsignal(signum)
        module = str(getattr(handler, "__module__", ""))
        if callable(handler) and module.partition(".")[0] not in _QUIET:
            return True
    return False
