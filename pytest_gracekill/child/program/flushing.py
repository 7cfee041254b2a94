"""The flush: blocks from the fake's memory to its disk file, at the pace of a slow disk.

Each block has an absolute deadline, so that a busy machine makes single blocks late and not the
whole flush longer. Nothing calls fsync: SIGKILL does not lose the page cache, and what a busy
host's fsync takes would blur the pace.
"""

import os

from . import blockformat
from .clock import monotonic
from .record import EXIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .machine import Machine


def flush(machine: "Machine", reason: str) -> None:
    """Write what is dirty, in order; return when the last block is on the disk file.

    :param reason: why; `on_term` is heeded by the flush alone after which the VM exits.
    """
    knobs = machine.configuration
    blocks = sorted(machine.dirty)
    machine.record.write("flush_begin", blocks=len(blocks), reason=reason)
    begin = monotonic()
    if knobs.flush_profile == "never":
        machine.rest(float("inf"))
    stall_at = knobs.stall_at if knobs.flush_profile == "stall" else -1
    asked = reason == EXIT and knobs.on_term in ("crash", "stop")
    event_at = knobs.on_term_at if asked else -1
    for position, block in enumerate(blocks):
        last = position == len(blocks) - 1
        # a flushing guest may have left the block in question clean: the next one then, or the
        # last, so that what was asked for happens
        if stall_at >= 0 and (block >= stall_at or last):
            stall_at = -1
            begin += knobs.stall_seconds
            machine.rest(begin + _due(machine, position, len(blocks)))
        slot = (
            begin + _due(machine, position, len(blocks)),
            begin + _due(machine, position + 1, len(blocks)),
        )
        data = blockformat.pack(knobs.seed, block, machine.generations[block], knobs.block_size)
        half = len(data) // 2 if knobs.torn else 0
        if half:
            machine.rest((slot[0] + slot[1]) / 2)
            _write(machine, block, data[:half], 0)
        machine.rest(slot[1])
        if event_at >= 0 and (block >= event_at or last):
            event_at = -1
            begin += _crash_or_freeze(machine)
        _write(machine, block, data[half:], half)
        machine.record.write("block", index=block, generation=machine.generations[block])
    if event_at >= 0:
        _crash_or_freeze(machine)  # nothing was dirty: a QMP `stop` had flushed it


def _crash_or_freeze(machine: "Machine") -> float:
    """Do what `on_term` says; return the seconds for which it has kept a VM that goes on."""
    if machine.configuration.on_term == "crash":
        from .dying import crash  # noqa: PLC0415  # needed once, here

        crash(machine)
    stopped = monotonic()
    machine.freeze()
    return monotonic() - stopped  # a frozen VM does not catch up


def flush_for_guest(machine: "Machine") -> None:
    """Make durable what the guest wrote so far: from here on SIGKILL cannot lose it."""
    blocks = sorted(machine.dirty)
    knobs = machine.configuration
    for block in blocks:
        generation = machine.generations[block]
        _write(machine, block, blockformat.pack(knobs.seed, block, generation, knobs.block_size), 0)
        machine.record.write("block", index=block, generation=generation)
    machine.record.write(
        "guest_flush", blocks=[(block, machine.generations[block]) for block in blocks]
    )
    machine.dirty.clear()


def _due(machine: "Machine", position: int, count: int) -> float:
    """Seconds after the begin at which so many blocks are written."""
    share = position / count
    if machine.configuration.flush_profile == "slowing":
        share *= share
    return machine.configuration.flush_time * share


def _write(machine: "Machine", block: int, data: bytes, at: int) -> None:
    os.pwrite(machine.disk, data, blockformat.offset(block, machine.configuration.block_size) + at)
