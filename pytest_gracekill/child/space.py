"""Room for the files of a fake, set aside before it is started: a full disk is an error of a start.

The disk's own room is set aside by `disk.create`.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from pytest_gracekill.errors import StartError

from .program import blockformat, room

if TYPE_CHECKING:
    from pathlib import Path

    from .knobs import Knobs

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def create_journal(path: Path, *, blocks: int) -> None:
    """Make a journal, or take the one that is there, and set room aside for its lines.

    :raises OSError: there is no room for it; what has been made is left.
    """
    with path.open("ab") as file:
        try:
            room.set_aside(file.fileno(), room.needed(blocks))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None


def start_error(error: OSError, knobs: Knobs, directory: Path) -> Exception:
    """Return what to raise where the files of a fake cannot be made.

    Where the file system is full, that says how much room is needed, and the large files are
    removed: whoever reports it needs room, too.
    """
    if error.errno not in _FULL:
        return error
    for name in ("disk", "journal"):
        (directory / name).unlink(missing_ok=True)
    size = blockformat.offset(knobs.blocks, knobs.block_size) + room.needed(knobs.blocks)
    free = os.statvfs(directory)
    return StartError(
        f"{error.filename or directory}: {error.strerror}: the fake needs {size} bytes for its"
        f" disk and its journal in {directory}, where {free.f_bavail * free.f_frsize} bytes are"
        " free"
    )
