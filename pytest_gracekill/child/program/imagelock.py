"""The lock on the image, as QEMU takes it: OFD read locks on single bytes of the file.

QEMU's `block/file-posix.c`: a byte at 100 + bit for each permission in use
(`RAW_LOCK_PERM_BASE`), one at 200 + bit for each that is not shared (`RAW_LOCK_SHARED_BASE`).
For a disk with a writing guest: consistent-read (bit 0), write (1) and resize (3), of which
write and resize are not shared. The lock belongs to the open file description: whoever has a
copy of the descriptor keeps it.
"""

import fcntl
from sys import byteorder

F_OFD_GETLK, F_OFD_SETLK = 36, 37  # Linux; not every build of the fcntl module has the names
F_RDLCK, F_WRLCK, F_UNLCK = 0, 1, 2
PERMISSIONS = {"consistent read": 0, "write": 1, "resize": 3}
UNSHARED = ("write", "resize")
PERMISSION_BASE, SHARED_BASE = 100, 200


def _flock(kind: int, start: int, length: int) -> bytes:
    """`struct flock` of a 64-bit Linux."""
    fields = (kind, 2), (0, 2), (0, 4), (start, 8), (length, 8), (0, 8)
    return b"".join(value.to_bytes(size, byteorder) for value, size in fields)


def held(fd: int, start: int, length: int = 1) -> bool:
    """Say whether another open file description has a lock in this range."""
    answer = fcntl.fcntl(fd, F_OFD_GETLK, _flock(F_WRLCK, start, length))
    return int.from_bytes(answer[:2], byteorder) != F_UNLCK


def take(fd: int) -> str:
    """Take the locks; return the permission that another process denies us, or ''."""
    for bit in PERMISSIONS.values():
        fcntl.fcntl(fd, F_OFD_SETLK, _flock(F_RDLCK, PERMISSION_BASE + bit, 1))
    for name in UNSHARED:
        fcntl.fcntl(fd, F_OFD_SETLK, _flock(F_RDLCK, SHARED_BASE + PERMISSIONS[name], 1))
    for name, bit in PERMISSIONS.items():
        if held(fd, SHARED_BASE + bit) or (name in UNSHARED and held(fd, PERMISSION_BASE + bit)):
            return name
    return ""
