"""The disk file as it is judged: which acknowledged writes are on it, and which are not.

What was acknowledged, and what the guest had flushed, is read from the journal; what is there,
from the file. Any content of either gets a verdict, never a traceback.

What the journal says was written, and is not there, has been damaged by another process than the
fake: that is told apart from what was never written. It cannot see what power loss would do:
SIGKILL does not lose the kernel's page cache.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from .limits import LARGEST_BLOCK, MOST_BLOCKS, SECTOR
from .program import blockformat

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from .journal import Entry, Journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What became of the acknowledged writes: lists of block numbers, and what was wrong."""

    acknowledged: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    torn: list[int] = field(default_factory=list)
    stale: list[int] = field(default_factory=list)
    phantom: list[int] = field(default_factory=list)
    problem: str | None = None
    #: What another process than the VM has done to the disk or its journal; None if nothing was.
    damaged: str | None = None
    #: Acknowledged blocks that the VM never wrote, by its journal: lost, whatever became of the
    #: disk. The first of them is left out: the VM may have been killed before it had journalled it.
    unwritten: list[int] = field(default_factory=list)
    dirty: bool = False  # the dirty byte, as qcow2's: the image was not closed in order

    @property
    def ok(self) -> bool:
        found = self.lost or self.torn or self.stale or self.phantom
        return not found and self.problem is None

    def __str__(self) -> str:
        total = len(self.acknowledged)
        parts = [
            f"{len(blocks)} of {total} blocks {word}: {ranges(blocks)}"
            for word, blocks in (
                ("lost", self.lost),
                ("torn", self.torn),
                ("stale", self.stale),
                ("phantom", self.phantom),
            )
            if blocks
        ]
        if self.problem is not None:
            parts.append(self.problem)
        return "; ".join(parts) or f"all {total} acknowledged blocks on disk"


class Disk:
    """The disk file of one fake, with the journal that says what ought to be on it."""

    def __init__(self, path: Path, journal: Journal) -> None:
        self.path = path
        self.journal = journal

    def audit(self, entries: Sequence[Entry] | None = None) -> Audit:
        """Compare the file with the journal; best when the fake is dead.

        :param entries: those of the journal that count; all by default.
        """
        promised = _promises(self.journal.entries() if entries is None else entries)
        if promised is None:
            why = f"the disk's journal {self.journal.path} was damaged: no record of a start in it"
            return Audit(problem=why, damaged=why)
        try:
            with _open(self.path) as file:
                return _compare(file, promised, self.path)
        except OSError as error:
            why = f"the disk file {self.path} cannot be read: {error.strerror or error}"
            return _all_lost(promised, why)

    def locked(self) -> bool:
        """Say whether any process holds QEMU's locks on the image; False where it is missing."""
        from .program import imagelock  # noqa: PLC0415  # needs fcntl, which Windows has not

        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            return imagelock.held(fd, imagelock.PERMISSION_BASE, 200)
        finally:
            os.close(fd)

    def __str__(self) -> str:
        return f"disk {self.path}"


def ranges(blocks: Iterable[int]) -> str:
    """Return block numbers for people: `3, 42-63`."""
    runs: list[list[int]] = []
    for block in sorted(set(blocks)):
        if runs and block == runs[-1][1] + 1:
            runs[-1][1] = block
        else:
            runs.append([block, block])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def create(path: Path, *, blocks: int, block_size: int, seed: int) -> None:
    """Make an empty disk: a header, and blocks that are all zero.

    As `qemu-img create -o preallocation=falloc`: a flush does not run out of space.

    :raises OSError: there is no room for it; no file is left.
    """
    size = blockformat.offset(blocks, block_size)
    with path.open("wb") as file:
        try:
            file.write(blockformat.pack_header(blocks, block_size, seed))
            file.flush()
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            path.unlink()
            raise OSError(error.errno, error.strerror, str(path)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Promises:
    """What the journal says: the newest generation of each block that was acknowledged."""

    blocks: int
    block_size: int
    seed: int
    acknowledged: Mapping[int, int]
    #: The newest generation of each block that was written to the file.
    written: Mapping[int, int]


def _promises(entries: Sequence[Entry]) -> _Promises | None:
    starts = [at for at, entry in enumerate(entries) if entry.event == "start"]
    if not starts:
        return None
    start = entries[starts[-1]]
    blocks, block_size, seed = (start.number(name) for name in ("blocks", "block_size", "seed"))
    if not (0 < blocks <= MOST_BLOCKS and SECTOR <= block_size <= LARGEST_BLOCK):
        return None
    if not 0 <= seed < 1 << 32:
        return None
    acknowledged: dict[int, int] = {}
    written: dict[int, int] = {}
    for entry in entries[starts[-1] :]:
        if entry.event == "ack":
            first, last = max(0, entry.number("first")), min(blocks - 1, entry.number("last"))
            for block in range(first, last + 1):
                acknowledged[block] = entry.number("generation")
        elif entry.event == "block":
            written[entry.number("index")] = entry.number("generation")
    return _Promises(
        blocks=blocks,
        block_size=block_size,
        seed=seed,
        acknowledged=acknowledged,
        written=written,
    )


def _open(path: Path) -> BinaryIO:
    """Open a regular file; anything else could make us wait for ever."""
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(0, "not a regular file")
    return os.fdopen(fd, "rb")


def _all_lost(promised: _Promises, why: str) -> Audit:
    acknowledged = sorted(promised.acknowledged)
    return Audit(
        acknowledged=acknowledged,
        lost=acknowledged,
        problem=why,
        damaged=why,
        unwritten=_unwritten(promised),
    )


def _unwritten(promised: _Promises) -> list[int]:
    blocks = sorted(promised.acknowledged)
    return [b for b in blocks if promised.written.get(b, 0) < promised.acknowledged[b]][1:]


def _compare(file: BinaryIO, promised: _Promises, path: Path) -> Audit:
    name = f"the disk file {path}"
    header = file.read(blockformat.HEADER_SIZE)
    right = blockformat.pack_header(promised.blocks, promised.block_size, promised.seed)
    if not header.startswith(blockformat.MAGIC):
        return _all_lost(promised, f"{name}: not a fake's disk (it begins with {header[:8]!r})")
    found: dict[str, list[int]] = {"lost": [], "torn": [], "stale": [], "phantom": []}
    overwritten = []
    for block in range(promised.blocks):
        data = file.read(promised.block_size)
        word = _judge(data, block, promised)
        if word is not None:
            found[word].append(block)
            if not _may_be(word, data, block, promised):
                overwritten.append(block)
    dirty = header[blockformat.DIRTY_OFFSET :][:1]
    problem = None
    clean = header[: blockformat.DIRTY_OFFSET] + b"\0" + header[blockformat.DIRTY_OFFSET + 1 :]
    size, whole = _size(file), blockformat.offset(promised.blocks, promised.block_size)
    if size < whole:
        problem = f"{name}: truncated to {size} of {whole} bytes"
    elif size > whole:
        problem = f"{name}: {size - whole} bytes too long"
    elif clean != right or dirty not in (b"\0", b"\1"):
        problem = f"{name}: the header is damaged, or that of another fake's disk"
    elif overwritten:
        problem = f"{name}: blocks {ranges(overwritten)} were overwritten after the VM wrote them"
    return Audit(
        acknowledged=sorted(promised.acknowledged),
        lost=found["lost"],
        torn=found["torn"],
        stale=found["stale"],
        phantom=found["phantom"],
        problem=problem,
        damaged=problem,
        unwritten=_unwritten(promised),
        dirty=dirty != b"\0",
    )


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _may_be(word: str, data: bytes, block: int, promised: _Promises) -> bool:
    """Say whether the VM itself may have left the block so, by what it journalled as written."""
    written = promised.written.get(block)
    if written is None:
        return True
    if word == "stale":
        whole = blockformat.unpack(data)
        return whole is not None and whole[1] >= written
    # half of a newer generation may be there; the first one was blank before
    return word == "torn" and promised.acknowledged.get(block, written) > written


def _judge(data: bytes, block: int, promised: _Promises) -> str | None:
    """Return the word for what is wrong with this block, or None."""
    generation = promised.acknowledged.get(block)
    if not any(data):
        return None if generation is None else "lost"
    if generation is None:
        return "phantom"
    whole = blockformat.unpack(data)
    if whole is None:
        return "torn"
    index, there = whole
    written = blockformat.pack(promised.seed, block, there, promised.block_size)
    if index != block or there > generation or there < 1 or data != written:
        return "phantom"
    return "stale" if there < generation else None
