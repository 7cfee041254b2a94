"""The guest of a fake that goes on writing, and now and then flushes what it wrote."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .machine import Machine

FLUSH_EVERY = 16  # writes between two flushes by a flushing guest


def write(machine: "Machine") -> None:
    """Write the next block, which is acknowledged at once; every block in turn."""
    block = machine.writes % machine.configuration.blocks
    generation = machine.generations[block] + 1
    machine.record.write("ack", first=block, last=block, generation=generation)
    machine.generations[block] = generation
    machine.dirty.add(block)
    machine.writes += 1
    if machine.configuration.guest == "flushing" and machine.writes % FLUSH_EVERY == 0:
        from .flushing import flush_for_guest  # noqa: PLC0415  # for those who flush

        flush_for_guest(machine)
