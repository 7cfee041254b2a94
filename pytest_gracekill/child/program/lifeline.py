"""The mark: a FIFO that every process of a fake holds open, and by which the kernel ends it.

The keeper (pytest, or the holder of the command line) has the only write end. Each process of
the fake opens the FIFO *by path* for itself, with `O_ASYNC` and `F_SETSIG` SIGKILL: when the
write end closes, however that came, the kernel sends SIGKILL, to stopped processes too. One byte
written to the FIFO does the same. The owner of the signal belongs to the open file description,
so a fork()ed process has to open its own.

What it cannot see: a process that closed the descriptor, or that has replaced itself by exec; one
that called `keep` before its exec still is the owner, whatever program it runs now.
"""

import fcntl
import os

SIGKILL = 9
F_SETSIG = 10  # as in <fcntl.h> of Linux; the module has the name only where libc's headers do
O_ASYNC = 0o20000
ORPHAN = 70  # exit status of a process that found nobody at the other end


class Lifeline:
    """The end of the mark that belongs to one process."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        self.hold()

    def hold(self) -> None:
        """Open the mark for this very process; call again in every fork()ed one."""
        inherited = self._fd
        try:
            self._fd = fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            os._exit(ORPHAN)  # started when all was over
        fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(fd, F_SETSIG, SIGKILL)
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_RDONLY | os.O_NONBLOCK | O_ASYNC)
        # only now: a keeper that went before the line above was too early for the signal
        try:
            os.read(fd, 1)
        except BlockingIOError:
            pass  # somebody has the other end, and has not told us to go
        else:
            os._exit(ORPHAN)
        if inherited >= 0:
            os.close(inherited)

    def keep(self) -> None:
        """Hold the mark over an exec, too."""
        os.set_inheritable(self._fd, True)  # noqa: FBT003  # its signature


def tell(path: str, line: str) -> None:
    """Write one line to the keeper's `ready` FIFO, if anybody listens there."""
    if not path:
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return  # no keeper who wants to know: the journal has it all
    try:
        os.write(fd, line.encode() + b"\n")
    finally:
        os.close(fd)
