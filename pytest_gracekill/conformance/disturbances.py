"""What happens to a routine while it waits: signals come, the exit status is taken by another.

Each is a context around the call that begins when the VM was asked to stop, as its journal tells.
They need Python: what a command sees cannot be changed from here.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pytest_gracekill.verdicts.requests import requests_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from pytest_gracekill.child.journal import Journal

#: Seconds between two looks at the journal, and between two interrupts of a wait.
_LOOK = 0.005
_JOIN = 10.0


class InterruptedCall(Exception):  # noqa: N818 - what a caller sees of an interrupt that came through
    """The routine let the interrupt through, as it may: the call has not reached its end."""


@contextmanager
def beside(work: Callable[[Callable[[], bool]], None], name: str) -> Iterator[None]:
    """Have ``work(wanted)`` done by a thread; it ends soon after ``wanted()`` says no."""
    over = threading.Event()
    thread = threading.Thread(
        target=work, args=(lambda: not over.wait(_LOOK),), name=f"gracekill:{name}", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_JOIN)


def asked(journal: Journal) -> bool:
    """Whether the VM has been asked to stop."""
    return bool(requests_of(journal.entries()))


# -- signals to the routine itself


@contextmanager
def interrupted_waits(journal: Journal) -> Iterator[None]:
    """Interrupt every system call of the routine again and again by a signal that has a handler."""
    main = threading.main_thread().ident
    assert main is not None

    def send(wanted: Callable[[], bool]) -> None:
        while wanted():
            if asked(journal):
                signal.pthread_kill(main, signal.SIGUSR2)

    previous = signal.signal(signal.SIGUSR2, lambda _signum, _frame: None)
    try:
        with beside(send, "signals-1"):
            yield
    finally:
        signal.signal(signal.SIGUSR2, previous)


@contextmanager
def keyboard_interrupt(journal: Journal) -> Iterator[None]:
    """Send one SIGINT when the VM was asked to stop; of a coroutine, cancel its task once.

    :raises InterruptedCall: the routine let the KeyboardInterrupt (or the cancellation) through.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    try:
        with _cancelled(journal, task) if task is not None else _sigint(journal):
            yield
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        if task is not None:
            task.uncancel()
        raise InterruptedCall(f"{type(error).__name__} came through") from None


@contextmanager
def _sigint(journal: Journal) -> Iterator[None]:
    main = threading.main_thread().ident
    assert main is not None
    inside = False

    def handle(_signum: int, _frame: FrameType | None) -> None:
        if inside:
            raise KeyboardInterrupt

    def send(wanted: Callable[[], bool]) -> None:
        while wanted():
            if asked(journal):
                signal.pthread_kill(main, signal.SIGINT)
                return

    previous = signal.signal(signal.SIGINT, handle)
    try:
        with beside(send, "interrupt-1"):
            inside = True
            try:
                yield
            finally:
                inside = False
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def _cancelled(journal: Journal, task: asyncio.Task[Any]) -> Iterator[None]:
    loop = task.get_loop()

    def cancel(wanted: Callable[[], bool]) -> None:
        while wanted():
            if asked(journal):
                loop.call_soon_threadsafe(task.cancel)
                return

    with beside(cancel, "interrupt-1"):
        yield


# -- the exit status


@contextmanager
def status_taken(journal: Journal) -> Iterator[None]:
    """Reap the VM in another thread when it exits, as a manager's SIGCHLD handler does."""
    pid = next(entry.number("pid") for entry in journal.entries() if entry.event == "start")

    def reap() -> None:
        with suppress(ChildProcessError):  # the routine itself was faster
            os.waitid(os.P_PID, pid, os.WEXITED)

    thread = threading.Thread(target=reap, name="gracekill:reaper-1", daemon=True)
    thread.start()
    yield
    # it waits for the VM, which the trial ends: nobody has to wait for the thread
