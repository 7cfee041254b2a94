"""The qcow2 image of a real QEMU: so laid out that what is not flushed is lost, and how it is read.

The first cluster below each L2 table is allocated in advance, by `qemu-io`. The guest then writes
the second one: its data goes to the disk at once, and the entry by which it is found stays in
QEMU's cache of L2 tables, which is written when the VM ends. Without that entry the cluster reads
as zeros. (To allocate one more L2 table would write all others; so there is none to allocate.)

What is there is read back by `qemu-io`, cluster by cluster, with the pattern of each. `qemu-img
check` is no judge: it looks whether the tables agree with each other, and they do when all is lost.
"""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from . import real_programs
from .disk import Audit, Disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .journal import Entry, Journal

CLUSTER = 4096
STRIDE = CLUSTER // 8 * CLUSTER
"""Bytes below one L2 table: each block is in a table of its own."""

# QEMU writes its cache of tables in the order of their places there, which they get by a hash of
# their offsets; as large as this, nothing wraps around, and blocks become durable from the first on
_VIRTUAL = 4096 * STRIDE
_FILE = 64 << 20  # an NBD export cannot grow
_BEFORE = 0xEE  # what the first clusters hold
_PATTERNS = 199

_OFFSETS = 0x00FFFFFFFFFFFE00  # the part of a table's entry that is an offset
_DIRTY = 1  # bit of the incompatible features

#: Seconds for a program that takes milliseconds.
_WITHIN = 30.0

_READ = re.compile(
    r"^(Pattern verification failed|read \d+/\d+ bytes) at offset (\d+)", re.MULTILINE
)


def offset(block: int) -> int:
    """Where in the guest's view of the disk a block is."""
    return block * STRIDE + CLUSTER


def pattern(block: int) -> int:
    """The byte that a block is full of; no neighbour has the same."""
    return 1 + block % _PATTERNS


def create(path: Path, *, blocks: int, lazy_refcounts: bool) -> None:
    """Make an image for so many blocks, none of them written.

    :raises OSError: QEMU's programs could not do it.
    """
    path.write_bytes(_image(blocks, lazy_refcounts=lazy_refcounts))
    os.truncate(path, _FILE)


@lru_cache(maxsize=8)
def _image(blocks: int, *, lazy_refcounts: bool) -> bytes:
    """What QEMU's programs make: once, since they wait for the hardware, and a trial should not."""
    programs = real_programs.find(real_programs.IMG, real_programs.IO)
    lazy = "on" if lazy_refcounts else "off"
    options = f"cluster_size={CLUSTER},lazy_refcounts={lazy}"
    writes = [f"write -q -P {_BEFORE} {block * STRIDE} {CLUSTER}" for block in range(blocks)]
    with tempfile.TemporaryDirectory(prefix="gracekill-") as folder:
        path = Path(folder) / "disk"
        create = ("create", "-q", "-f", "qcow2", "-o", options, str(path), str(_VIRTUAL))
        _run(programs[real_programs.IMG], *create)
        _run(programs[real_programs.IO], "-t", "unsafe", "-f", "qcow2", *_each(writes), str(path))
        return path.read_bytes()


def tables(path: Path) -> dict[int, int]:
    """Which block's L2 table is where in the file: offset -> block."""
    with path.open("rb") as file:
        header = file.read(104)
        size, at = struct.unpack_from(">IQ", header, 36)
        file.seek(at)
        entries = struct.unpack(f">{size}Q", file.read(8 * size))
    return {entry & _OFFSETS: block for block, entry in enumerate(entries) if entry & _OFFSETS}


class RealDisk(Disk):
    """The image, as it is judged. ``settle`` is called before it is read: nobody writes then.

    Reading it back while the VM runs says what would be there if it were killed now.
    """

    def __init__(self, path: Path, journal: Journal, settle: Callable[[], None]) -> None:
        super().__init__(path, journal)
        self._settle = settle
        self._programs = real_programs.find(real_programs.IMG, real_programs.IO)

    def audit(self, entries: Sequence[Entry] | None = None) -> Audit:
        """Read every block back that the guest has written.

        :param entries: those of the journal that count; all by default.
        """
        self._settle()
        acknowledged = [
            block
            for entry in (self.journal.entries() if entries is None else entries)
            if entry.event == "ack"
            for block in range(entry.number("first"), entry.number("last") + 1)
        ]
        try:
            wrong = self._mismatches(acknowledged, pattern)
            # what was never linked reads as zeros; anything else nobody has written
            torn = self._mismatches(wrong, lambda _: 0)
            return Audit(
                acknowledged=acknowledged,
                lost=[block for block in wrong if block not in torn],
                torn=torn,
                dirty=self._dirty(),
            )
        except (OSError, subprocess.SubprocessError, struct.error) as error:
            return Audit(acknowledged=acknowledged, problem=f"{self.path}: {error}")

    def locked(self) -> bool:
        """False: over NBD QEMU takes no lock on the image."""
        return False

    def check(self) -> dict[str, object]:
        """What ``qemu-img check`` says of the image; it is no judge of what was lost."""
        self._settle()
        command = [self._programs[real_programs.IMG], "check", "-f", "qcow2", "--output=json"]
        done = subprocess.run(
            [*command, str(self.path)], capture_output=True, text=True, timeout=_WITHIN, check=False
        )
        said: dict[str, object] = json.loads(done.stdout)
        return said

    def _mismatches(self, blocks: Iterable[int], holds: Callable[[int], int]) -> list[int]:
        """Which of the blocks are not full of this byte.

        :raises OSError: not all of them could be read.
        """
        wanted = {offset(block): block for block in blocks}
        if not wanted:
            return []
        reads = [f"read -P {holds(block)} {at} {CLUSTER}" for at, block in wanted.items()]
        done = subprocess.run(
            [self._programs[real_programs.IO], "-r", "-f", "qcow2", *_each(reads), str(self.path)],
            capture_output=True,
            text=True,
            timeout=_WITHIN,
            check=False,
        )
        seen = [(what, int(at)) for what, at in _READ.findall(done.stdout)]
        were_read = {at for what, at in seen if what.startswith("read")}
        if were_read != set(wanted):
            raise OSError(
                f"{len(were_read)} of {len(wanted)} blocks could be read; qemu-io said:"
                f" {(done.stderr or done.stdout).strip()[-300:]}"
            )
        return sorted(wanted[at] for what, at in seen if not what.startswith("read"))

    def _dirty(self) -> bool:
        with self.path.open("rb") as file:
            (features,) = struct.unpack_from(">Q", file.read(80), 72)
        return bool(features & _DIRTY)

    def __str__(self) -> str:
        return f"qcow2 image {self.path}"


def _each(commands: Iterable[str]) -> list[str]:
    return [word for command in commands for word in ("-c", command)]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_WITHIN, check=False)
    if done.returncode:
        raise OSError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()}")
