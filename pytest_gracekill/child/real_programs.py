"""QEMU's own programs: where they are, and how to install those that are not."""

from __future__ import annotations

import os
import shutil

from pytest_gracekill.errors import UnsupportedError

SYSTEM, DAEMON = "qemu-system-x86_64", "qemu-storage-daemon"
IMG, IO = "qemu-img", "qemu-io"

INSTALL = (
    "apt-get install --no-install-recommends qemu-system-x86 qemu-utils"
    " (Debian, Ubuntu), or: dnf install qemu-system-x86-core qemu-img (Fedora)"
)


class MissingQemuError(UnsupportedError):
    """QEMU is not installed; the test is skipped, or fails where it is required."""

    def __reduce__(self) -> tuple[object, ...]:
        return _missing_qemu_error, (self.what, self.source)


def _missing_qemu_error(what: str, source: str) -> MissingQemuError:
    return MissingQemuError(what, source=source)


def find(*names: str) -> dict[str, str]:
    """The absolute path of each program.

    :raises MissingQemuError: one is not on PATH; the text says how to install it.
    """
    found = {name: shutil.which(name) for name in names}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise MissingQemuError(
            f"{' and '.join(missing)} {are} not installed: {INSTALL}", source="real_qemu"
        )
    return {name: os.path.abspath(path) for name, path in found.items() if path is not None}  # noqa: PTH100 - keeps links, by whose name QEMU goes
