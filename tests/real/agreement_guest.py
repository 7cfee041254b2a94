"""A guest of 510 bytes: it enables the power button, says so, and powers off when it is pressed.

ACPI's registers of QEMU's machine `pc`, as SeaBIOS has placed them (PIIX4, `hw/acpi/core.c`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

READY = "R"
"""What it writes to the port of `-debugcon`."""

SAYS = "says"
"""The file that has what it writes there, beside its disk."""

_CODE = (
    b"\xfa"  # cli
    b"\xba\x02\x06\xb8\x00\x01\xef"  # out 0x602, 0x100: the button is an event
    b"\xb0\x52\xe6\xe9"  # out 0xe9, 'R'
    b"\xba\x00\x06"  # mov dx, 0x600
    b"\xed\xa9\x00\x01\x74\xfa"  # until the button has been pressed
    b"\xba\x04\x06\xb8\x00\x20\xef"  # out 0x604, 0x2000: power off
    b"\xf4\xeb\xfd"  # hlt, for ever
)


def create(path: Path) -> list[str]:
    """Make its disk; returns QEMU's options for a machine that boots it."""
    path.write_bytes(_CODE.ljust(510, b"\0") + b"\x55\xaa" + bytes(512 * 100))
    return [
        *("-machine", "pc", "-accel", "tcg", "-m", "16", "-display", "none"),
        *("-nodefaults", "-no-user-config"),
        *("-drive", f"file={path},format=raw,snapshot=on"),
        *("-debugcon", f"file:{path.with_name(SAYS)}"),
    ]
