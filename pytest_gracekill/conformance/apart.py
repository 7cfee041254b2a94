"""A part of a case in a process of its own, forked so that the user's routine is there as it is.

With fewer rights, so that the kernel says EPERM; or in a pid namespace of its own, in which a pid
can be given away again without disturbing anybody. The process ends with its work, and with pytest,
however that ends: it holds the reading end of a mark.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import select
import signal
import traceback
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pytest_gracekill import clock
from pytest_gracekill.child.mark import Mark

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gracekill.child.program.lifeline import Lifeline

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000

#: The user and group without rights: the kernel's own overflow ids.
NOBODY = 65534


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """What went wrong in the other process: its traceback, or how it ended."""

    text: str

    def __str__(self) -> str:
        return self.text


class CannotError(OSError):
    """The machine does not let us have such a process."""


def perform(
    work: Callable[[], object], folder: Path, *, within: float, prepare: Callable[[Lifeline], None]
) -> object:
    """What ``work()`` returns in a process that was prepared before; or `Failed`.

    :param folder: where the mark goes; it has to be there.
    :param within: seconds after which the process is killed.
    :raises CannotError: ``prepare`` was refused.
    """
    mark = Mark(folder / "apart.mark")
    reading, writing = os.pipe()
    try:
        with warnings.catch_warnings():
            # of threads that might hold locks: this process calls nothing that theirs could be
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _work(work, prepare, str(mark.path), writing)
        os.close(writing)
        writing = -1
        answer = _read(reading, clock.monotonic() + within)
        mark.sweep()
        status = os.waitpid(pid, 0)[1]
    finally:
        mark.release()
        mark.path.unlink()
        os.close(reading)
        if writing >= 0:
            os.close(writing)
    if not answer:
        code = os.waitstatus_to_exitcode(status)
        return Failed(text=f"the process ended ({code}) or was killed after {within:g} s")
    kind, value = pickle.loads(answer)  # noqa: S301 - from our own fork
    if kind == "cannot":
        raise CannotError(value)
    return value


def _work(
    work: Callable[[], object], prepare: Callable[[Lifeline], None], mark: str, writing: int
) -> NoReturn:
    """Be the other process."""
    from pytest_gracekill.child.program.lifeline import Lifeline  # noqa: PLC0415 - Linux only

    answer: tuple[str, object]
    try:
        lifeline = Lifeline(mark)
        try:
            prepare(lifeline)
        except OSError as error:
            answer = "cannot", str(error)
        else:
            answer = "done", work()
    except BaseException:  # noqa: BLE001 - the last frame of this process
        answer = "done", Failed(text=traceback.format_exc())
    with suppress(BrokenPipeError), os.fdopen(writing, "wb") as pipe:
        pipe.write(pickle.dumps(answer))
    os._exit(0)


def _read(reading: int, deadline: float) -> bytes:
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    parts: list[bytes] = []
    while poll.poll(max(deadline - clock.monotonic(), 0.0) * 1000):
        part = os.read(reading, 65536)
        if not part:
            return b"".join(parts)
        parts.append(part)
    return b""


def drop_rights(_lifeline: Lifeline) -> None:
    """Be nobody from here on. What is open stays open."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def enter_pid_namespace(lifeline: Lifeline) -> None:
    """Go on in a pid namespace of our own, with a /proc that shows it; pid 1 reaps beside us.

    As root, or else in a user namespace in which we are. What runs in it ends with us.

    :raises OSError: the kernel, or a container around us, does not let us.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWPID | CLONE_NEWNS) != 0:
        _check(libc.unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS), "unshare")
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1", encoding="ascii")
    _check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount --make-rprivate /")
    _go_on_in_child()
    # here we are pid 1, which gets no signal that it does not handle: the work is done beside it
    _check(libc.mount(b"proc", b"/proc", b"proc", 0, None), "mount /proc")
    _go_on_in_child()
    lifeline.hold()


def _go_on_in_child() -> None:
    """Return in a child; the parent reaps whatever comes to it, and ends with that child."""
    child = os.fork()
    if child == 0:
        return
    try:
        # the pipe's end, above all: somebody waits for its end
        os.closerange(3, 2**31 - 1)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        while os.wait()[0] != child:
            pass
    finally:
        os._exit(0)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
