"""A VM that the routine may not signal: the kernel says EPERM, or we say so in its place.

In earnest, the call is made by a process without rights (`apart`): its locks are a copy of ours,
and those that it has let go at its return are let go here. Injected, the calls that send signals
raise for the VM, so that every path of a routine in this process can be seen.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import pickle
import shlex
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_gracekill.conformance.apart import Failed, drop_rights, perform
from pytest_gracekill.legible import error_text
from pytest_gracekill.passing import passes_through
from pytest_gracekill.promises import ok_of
from pytest_gracekill.routine.external import External
from pytest_gracekill.witness import signal_audit
from pytest_gracekill.witness.bindings import replaced
from pytest_gracekill.witness.recipients import pid_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pytest_gracekill.child.journal import Journal
    from pytest_gracekill.routine.adapt import Adapted


class ReportedError(Exception):
    """What the routine raised in the process without rights, by its name and text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What the call came to: its result, or what it raised, and which locks it has let go."""

    result: object
    raised: str | None
    let_go: tuple[int, ...]

    def __str__(self) -> str:
        return self.raised or str(self.result)


def without_rights(adapted: Adapted, folder: Path, within: float) -> Callable[..., object]:
    """The routine, called by a process that may not signal the VM.

    :param within: seconds after which that process is killed.
    :raises CannotError: (when called) there are no rights to be given up.
    """
    routine: Any = adapted.routine

    def call(*arguments: Any, **named: Any) -> object:
        locks = _locks((*arguments, *named.values())) if adapted.kind == "driver" else []
        answer = perform(
            lambda: _answer(routine, arguments, named, locks),
            folder,
            within=within,
            prepare=drop_rights,
        )
        if isinstance(answer, Failed):
            raise ReportedError(str(answer))
        assert isinstance(answer, _Answer)
        for index in answer.let_go:
            locks[index].release()
        if answer.raised is not None:
            raise ReportedError(answer.raised)
        return answer.result

    wrapped = functools.wraps(routine, updated=())(call)
    wrapped.__qualname__ = adapted.name
    return wrapped


def _locks(arguments: Sequence[Any]) -> list[Any]:
    return [argument.lock for argument in arguments if hasattr(argument, "lock")]


def _answer(routine: Any, arguments: Any, named: Any, locks: list[Any]) -> _Answer:
    result: object = None
    raised = None
    try:
        result = routine(*arguments, **named)
        if asyncio.iscoroutine(result):
            result = asyncio.run(result)
    except BaseException as error:
        if passes_through(error):
            raise
        # raising is one way to report a failure
        raised = error_text(error)
    let_go = tuple(index for index, lock in enumerate(locks) if not lock.held())
    try:
        pickle.dumps(result)
    except (pickle.PicklingError, TypeError, AttributeError):
        # what it claims is all that counts
        result = result is not False and ok_of(result) is not False
    return _Answer(result=result, raised=raised, let_go=let_go)


def command_without_rights(external: External, setpriv: str) -> External:
    """The same command, run by nobody; ``setpriv`` is the program of util-linux."""
    nobody = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups"]
    stop = external.stop
    words = shlex.split(stop) if isinstance(stop, str) else list(stop)
    return External(stop=[*nobody, *words], start=external.start, files=external.files)


@contextmanager
def refused(journal: Journal) -> Iterator[None]:
    """Have every signal to the VM raise PermissionError, the empty one (0) too."""
    vm = next(entry.number("pid") for entry in journal.entries() if entry.event == "start")
    send: Callable[..., None] = signal.pidfd_send_signal

    @functools.wraps(send)
    def pidfd_send_signal(pidfd: int, signum: int, *more: object) -> None:
        deny(pid_of(pidfd))
        send(pidfd, signum, *more)

    def deny(pid: int | None) -> None:
        if pid == vm:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with (
        signal_audit.watched(lambda _event, whom, *_: deny(whom)),
        replaced([(send, pidfd_send_signal)]),
    ):
        yield
