"""The guest of a fake that goes on writing, and now and then flushes what it wrote.

What it is acknowledged has to be journalled, and so has the flush of it: the guest stops, as with
QEMU's `werror=enospc`, when there is no room for that any more.
"""

from . import room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .machine import Machine

FLUSH_EVERY = 16  # writes between two flushes by a flushing guest
LOOK_EVERY = 64  # writes between two looks at the journal's room, which is enough for hundreds


def write(machine: "Machine") -> None:
    """Write the next block, which is acknowledged at once; every block in turn."""
    if machine.writes % LOOK_EVERY == 0 and not _has_room(machine):
        machine.running = False
        return
    block = machine.writes % machine.configuration.blocks
    generation = machine.generations[block] + 1
    machine.record.write("ack", first=block, last=block, generation=generation)
    machine.generations[block] = generation
    machine.dirty.add(block)
    machine.writes += 1
    if machine.configuration.guest == "flushing" and machine.writes % FLUSH_EVERY == 0:
        from .flushing import flush_for_guest  # noqa: PLC0415  # for those who flush

        flush_for_guest(machine)


def _has_room(machine: "Machine") -> bool:
    journal, enough = machine.record.fileno(), room.needed(machine.configuration.blocks)
    try:
        # in a file system that cannot set room aside, the attempt is all there is
        return room.left(journal) >= enough or room.set_aside(journal, enough + room.STEP) or True
    except OSError as error:
        machine.record.write("guest_paused", errno=error.errno or 0)
        return False
