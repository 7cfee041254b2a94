"""Room on the file system that is set aside before it is needed, so that a full disk fails early.

`fallocate(2)` with FALLOC_FL_KEEP_SIZE: the file does not become longer, and a reader of the
journal notices nothing. Where the file system cannot do that, nothing is set aside.
"""

import ctypes
import errno
import os
from functools import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

KEEP_SIZE = 1
FOR_A_BLOCK = 256  # bytes of the journal for one block that is flushed: its line, twice
FOR_THE_REST = 32768  # for all other lines
STEP = 1 << 16  # what a guest that goes on writing sets aside at a time

UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def needed(blocks: int) -> int:
    """Return how many bytes the journal of a fake needs from any moment to its end."""
    return FOR_THE_REST + FOR_A_BLOCK * blocks


def set_aside(fd: int, size: int) -> bool:
    """Set aside so many bytes behind the end of a file; False where that is not possible.

    :raises OSError: there is no room.
    """
    if _fallocate()(fd, KEEP_SIZE, os.fstat(fd).st_size, size) == 0:
        return True
    failed = ctypes.get_errno()
    if failed in UNSUPPORTED:
        return False
    raise OSError(failed, os.strerror(failed))


@cache
def _fallocate() -> "Callable[[int, int, int, int], int]":
    """Look the function up when it is needed: this module is imported where there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = libc.fallocate64 if hasattr(libc, "fallocate64") else libc.fallocate
    found.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return found


def left(fd: int) -> int:
    """Return how many bytes are set aside behind the end of a file."""
    status = os.fstat(fd)
    return status.st_blocks * 512 - status.st_size
