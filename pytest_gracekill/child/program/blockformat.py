"""The format of a fake's disk file: a header, then numbered blocks whose bytes are predictable.

Every byte of a block follows from (seed, index, generation), on every version of Python, so that
the audit can tell a whole block from a torn, a stale and a foreign one without asking the fake.

    header, 4096 bytes:  magic 8, version 4, block size 4, blocks 4, seed 4, CRC32 of these 4;
                         at offset 64 the dirty byte, set at start and cleared last, as qcow2's
    block:               magic 4, index 4, generation 4, length of payload 4, CRC32 of payload 4,
                         12 zero bytes; then the payload

Both sides use this module: the fake as `program.blockformat`, the audit by its full name.
"""

import zlib

MAGIC = b"GRACEKIL"
VERSION = 1
HEADER_SIZE = 4096
DIRTY_OFFSET = 64
BLOCK_MAGIC = b"GKBL"
HEAD_SIZE = 32
_PERIOD = 4096
_FIELDS_END = 24


def _u32(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)


def _words(start: int, count: int) -> bytes:
    """`count` words, each the CRC32 of the one before."""
    words = []
    word = zlib.crc32(_u32(start))
    for _ in range(count):
        raw = _u32(word)
        words.append(raw)
        word = zlib.crc32(raw, start)
    return b"".join(words)


_tables: dict[int, int] = {}


def _table(seed: int) -> int:
    """The part of every payload that depends on the place within the block."""
    if seed not in _tables:
        _tables[seed] = int.from_bytes(_words(seed, _PERIOD // 4), "little")
    return _tables[seed]


def payload(seed: int, index: int, generation: int, length: int) -> bytes:
    """Return what the guest wrote in this generation; it repeats itself every 4096 bytes."""
    key = _words(zlib.crc32(_u32(seed, index, generation)), 16)
    mixed = _table(seed) ^ int.from_bytes(key * (_PERIOD // 64), "little")
    period = mixed.to_bytes(_PERIOD, "little")
    return (period * (length // _PERIOD + 1))[:length]


def pack(seed: int, index: int, generation: int, block_size: int) -> bytes:
    """Return a whole block."""
    body = payload(seed, index, generation, block_size - HEAD_SIZE)
    head = BLOCK_MAGIC + _u32(index, generation, len(body), zlib.crc32(body))
    return head.ljust(HEAD_SIZE, b"\0") + body


def unpack(data: bytes) -> tuple[int, int] | None:
    """Return (index, generation) of a block that is whole by its own account, else None."""
    if data[:4] != BLOCK_MAGIC or any(data[20:HEAD_SIZE]):
        return None
    index, generation, length, crc = (
        int.from_bytes(data[at : at + 4], "little") for at in range(4, 20, 4)
    )
    body = data[HEAD_SIZE:]
    return (index, generation) if length == len(body) and crc == zlib.crc32(body) else None


def offset(index: int, block_size: int) -> int:
    return HEADER_SIZE + index * block_size


def pack_header(blocks: int, block_size: int, seed: int) -> bytes:
    """Return the header of a new disk; the dirty byte is not set yet."""
    fields = MAGIC + _u32(VERSION, block_size, blocks, seed)
    return (fields + _u32(zlib.crc32(fields))).ljust(HEADER_SIZE, b"\0")
