"""The flush: its pace, its order, what is on the disk file when, and what SIGKILL leaves."""

import itertools
import os
import signal
import time

import pytest
from fakes import Spawn, await_line

from pytest_gracekill.child.handle import FakeQemu
from pytest_gracekill.child.journal import Entry
from pytest_gracekill.child.knobs import Stall
from pytest_gracekill.child.program import blockformat


def stopped(fake: FakeQemu, number: int = signal.SIGTERM) -> list[Entry]:
    """Ask the fake to end, and return its journal when it has."""
    os.kill(fake.pid, number)
    fake.wait(30)
    return fake.journal.entries()


def at(entries: list[Entry], event: str, nth: int = 0) -> float:
    return [entry.at_ns for entry in entries if entry.event == event][nth] / 1e9


def events(entries: list[Entry]) -> list[str]:
    return [entry.event for entry in entries]


def test_a_fake_left_alone_flushes_everything_in_order_and_exits_0(fake: Spawn) -> None:
    machine = fake(flush_time=0.1, blocks=8)
    assert machine.disk.audit().lost == list(range(8))
    assert machine.disk.audit().dirty
    entries = stopped(machine)
    told = [event for event, _ in itertools.groupby(events(entries)) if event != "role"]
    assert told == ["start", "ack", "pid_file", "handlers", "ready", "signal", "flush_begin",
                    "block", "flush_end", "unlock", "exit"]  # fmt: skip
    written = [(e.number("index"), e.number("generation")) for e in entries if e.event == "block"]
    assert written == [(block, 1) for block in range(8)]
    audit = machine.disk.audit()
    assert audit.ok
    assert not audit.dirty
    assert machine.exit is not None
    assert (machine.exit.code, machine.exit.signal) == (0, None)
    assert machine.exit.at == at(entries, "exit")


def test_the_journal_goes_forward_in_time(fake: Spawn) -> None:
    entries = stopped(fake(flush_time=0.05, guest="flushing"))
    stamps = [entry.at_ns for entry in entries]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize("flush_time", [0.05, 0.4])
def test_no_block_is_written_before_its_time(fake: Spawn, flush_time: float) -> None:
    entries = stopped(fake(flush_time=flush_time, blocks=8))
    begin = at(entries, "flush_begin")
    for block in range(8):
        assert at(entries, "block", block) - begin >= flush_time * (block + 1) / 8 - 0.001


def test_a_flush_time_of_0_is_over_at_once(fake: Spawn) -> None:
    spans = []
    for flush_time in (0, 1.0):
        entries = stopped(fake(flush_time=flush_time))
        spans.append(at(entries, "flush_end") - at(entries, "flush_begin"))
    assert spans[0] < spans[1] / 2


@pytest.mark.parametrize(("blocks", "block_size"), [(1, 512), (64, 4096), (3, 65536), (300, 1024)])
def test_the_disk_has_the_blocks_that_were_asked_for(
    fake: Spawn, blocks: int, block_size: int
) -> None:
    machine = fake(flush_time=0.02, blocks=blocks, block_size=block_size)
    stopped(machine)
    assert machine.disk.path.stat().st_size == 4096 + blocks * block_size
    assert machine.disk.audit().acknowledged == list(range(blocks))
    assert machine.disk.audit().ok


def test_the_seed_decides_what_is_written(fake: Spawn) -> None:
    contents = []
    for seed in (0, 0, 7):
        machine = fake(flush_time=0, blocks=2, seed=seed)
        stopped(machine)
        assert machine.disk.audit().ok
        contents.append(machine.disk.path.read_bytes())
    assert contents[0] == contents[1]
    assert contents[2].endswith(blockformat.pack(7, 1, 1, 4096))
    assert contents[0] != contents[2]


@pytest.mark.parametrize("profile", ["constant", "slowing"])
def test_the_profile_is_the_pace(fake: Spawn, profile: str) -> None:
    entries = stopped(fake(flush_time=0.6, blocks=10, flush_profile=profile))
    after = [at(entries, "block", block) - at(entries, "flush_begin") for block in range(10)]
    assert after[-1] >= 0.6
    # a busy machine makes a block late, and nothing makes it early
    early = [block for block in range(10) if after[block] < 0.6 * (block + 1) / 10 - 0.001]
    assert bool(early) is (profile == "slowing")
    for block in range(10):
        assert after[block] >= 0.6 * ((block + 1) / 10) ** 2 - 0.001


def test_a_flush_that_never_writes_is_waiting_for_ever(fake: Spawn) -> None:
    machine = fake(flush_time=0, flush_profile="never")
    os.kill(machine.pid, signal.SIGTERM)
    await_line(machine, "flush_begin")
    os.kill(machine.pid, signal.SIGTERM)
    await_line(machine, "signal", 2)
    assert "block" not in events(machine.journal.entries())
    assert machine.alive
    machine.kill()
    assert machine.disk.audit().lost == list(range(64))


def test_a_stall_is_a_pause_before_one_block(fake: Spawn) -> None:
    entries = stopped(fake(flush_time=0.1, blocks=10, flush_profile=Stall(at=4, seconds=0.5)))
    # whatever a busy machine adds elsewhere
    assert at(entries, "block", 4) - at(entries, "flush_begin") >= 0.5 + 0.05 - 0.001
    early = at(entries, "block", 3) - at(entries, "flush_begin")
    assert early < 0.5 or at(entries, "block", 4) - at(entries, "block", 3) >= 0.5
    assert at(entries, "flush_end") - at(entries, "flush_begin") >= 0.6


@pytest.mark.parametrize("torn", [False, True])
def test_sigkill_between_two_halves_leaves_a_torn_block(fake: Spawn, torn: bool) -> None:  # noqa: FBT001  # a parameter
    machine = fake(flush_time=3.0, blocks=2, torn=torn)
    os.kill(machine.pid, signal.SIGTERM)
    begin = await_line(machine, "flush_begin").at_ns / 1e9
    if torn:
        deadline = time.monotonic() + 20
        while not any(machine.disk.path.read_bytes()[4096:8192]):
            assert time.monotonic() < deadline, "no half of block 0 in 20 s"
        assert time.monotonic() - begin >= 0.75 - 0.01
    machine.kill()
    audit = machine.disk.audit()
    assert audit.torn == ([0] if torn else [])
    assert audit.lost == ([1] if torn else [0, 1])


def test_torn_blocks_are_whole_in_the_end(fake: Spawn) -> None:
    machine = fake(flush_time=0.1, torn=True)
    stopped(machine)
    assert machine.disk.audit().ok


def test_sigkill_loses_what_is_not_flushed_and_nothing_else(fake: Spawn) -> None:
    machine = fake(flush_time=2.0)
    os.kill(machine.pid, signal.SIGTERM)
    await_line(machine, "block", 10)
    machine.kill()
    written = [e.number("index") for e in machine.journal.entries() if e.event == "block"]
    audit = machine.disk.audit()
    # SIGKILL may come between a block and its line
    assert audit.lost in (list(range(len(written), 64)), list(range(len(written) + 1, 64)))
    assert len(audit.lost) >= 1
    assert machine.exit is not None
    assert (machine.exit.code, machine.exit.signal) == (None, signal.SIGKILL)


def test_an_idle_guest_writes_nothing_more(fake: Spawn) -> None:
    entries = stopped(fake(flush_time=0.02))
    acks = [dict(entry.fields) for entry in entries if entry.event == "ack"]
    assert acks == [{"first": 0, "last": 63, "generation": 1}]


def test_a_writing_guest_goes_on_until_the_first_signal(fake: Spawn) -> None:
    machine = fake(flush_time=0.3, blocks=4, guest="writing")
    await_line(machine, "ack", 12)
    entries = stopped(machine)
    names = events(entries)
    acks = [entry for entry in entries if entry.event == "ack"]
    assert [(e.number("first"), e.number("generation")) for e in acks[1:7]] == [
        (0, 2), (1, 2), (2, 2), (3, 2), (0, 3), (1, 3),
    ]  # fmt: skip
    assert "ack" not in names[names.index("signal") :]
    assert "guest_flush" not in names
    assert machine.disk.audit().ok
    last = {e.number("first"): e.number("generation") for e in acks[1:]}
    assert {
        e.number("index"): e.number("generation") for e in entries if e.event == "block"
    } == last


def test_a_writing_guest_loses_everything_by_sigkill(fake: Spawn) -> None:
    machine = fake(blocks=4, guest="writing")
    await_line(machine, "ack", 12)
    machine.kill()
    assert machine.disk.audit().lost == [0, 1, 2, 3]


def test_what_the_guest_flushed_survives_sigkill(fake: Spawn) -> None:
    machine = fake(blocks=20, guest="flushing")
    await_line(machine, "guest_flush", 2)
    machine.kill()
    flushed: dict[int, int] = {}
    for entry in machine.journal.entries():
        if entry.event == "guest_flush":
            pairs = entry.fields["blocks"]
            assert isinstance(pairs, list)
            flushed.update(pairs)
    assert set(flushed) == set(range(20))
    audit = machine.disk.audit()
    assert audit.lost == audit.torn == audit.phantom == []
    data = machine.disk.path.read_bytes()[4096:]
    for block, generation in flushed.items():
        there = blockformat.unpack(data[block * 4096 :][:4096])
        assert there is not None
        assert there >= (block, generation)


def test_a_flushing_guest_flushes_at_the_end_only_what_is_dirty(fake: Spawn) -> None:
    machine = fake(flush_time=0.05, blocks=64, guest="flushing")
    await_line(machine, "guest_flush", 2)
    entries = stopped(machine)
    begun = next(entry for entry in entries if entry.event == "flush_begin")
    assert 0 <= begun.number("blocks") < 64
    assert machine.disk.audit().ok


@pytest.mark.parametrize("linger", [0.0, 0.4])
def test_linger_is_between_the_flush_and_the_exit(fake: Spawn, linger: float) -> None:
    machine = fake(flush_time=0.02, linger=linger)
    entries = stopped(machine)
    assert at(entries, "flush_end") <= at(entries, "unlock")
    assert (at(entries, "exit") - at(entries, "unlock") >= 0.4) is (linger > 0)


@pytest.mark.parametrize("status", [0, 7])
def test_the_exit_status_is_what_was_asked_for(fake: Spawn, status: int) -> None:
    machine = fake(flush_time=0.02, exit_status=status)
    stopped(machine)
    assert machine.popen is not None
    assert machine.popen.wait(10) == status
    assert machine.exit is not None
    assert machine.exit.code == status


@pytest.mark.parametrize("disk_lock", [True, False])
def test_the_image_is_locked_until_the_flush_is_done(fake: Spawn, disk_lock: bool) -> None:  # noqa: FBT001  # a parameter
    machine = fake(flush_time=0.05, linger=20, disk_lock=disk_lock)
    assert machine.disk.locked() is disk_lock
    os.kill(machine.pid, signal.SIGTERM)
    await_line(machine, "unlock" if disk_lock else "flush_end")
    assert machine.alive
    assert not machine.disk.locked()
    assert ("unlock" in events(machine.journal.entries())) is disk_lock


def test_the_lock_goes_with_a_process_that_is_killed(fake: Spawn) -> None:
    machine = fake()
    assert machine.disk.locked()
    machine.kill()
    assert not machine.disk.locked()
    machine.disk.path.unlink()
    assert not machine.disk.locked()
