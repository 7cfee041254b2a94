"""QEMU's `-pidfile`: the file has the pid of the VM, and is locked as long as that lives.

`qemu_write_pidfile()` in `util/oslib-posix.c`. A second VM that is to have the same file does not
start; the file that a killed VM has left behind is free.
"""

import os
from fcntl import LOCK_EX, LOCK_NB, lockf

from .chardev import Unusable


def claim(path: str) -> str:
    """Lock and write the file; return where it is, from whatever folder.

    :raises Unusable: it cannot be made, or another VM has it.
    """
    try:
        # never closed: the lock goes with any descriptor of the file
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Unusable(
            f"cannot create PID file: Could not create '{path}': {error.strerror}"
        ) from None
    try:
        lockf(fd, LOCK_EX | LOCK_NB)
    except OSError as error:
        raise Unusable(f"cannot create PID file: Cannot lock pid file: {error.strerror}") from None
    os.ftruncate(fd, 0)
    os.write(fd, b"%d\n" % os.getpid())
    return os.path.abspath(path)  # noqa: PTH100  # pathlib is start-up time
