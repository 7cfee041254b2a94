"""The audit tells whole, lost, torn, stale and phantom blocks apart, whatever is in the file."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_gracekill.child.disk import Audit, Disk, create, ranges
from pytest_gracekill.child.journal import Journal
from pytest_gracekill.child.program import blockformat as fmt

BLOCKS, SIZE, SEED = 8, 1024, 5
QUIET = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def written(directory: Path, generations: dict[int, int]) -> Disk:
    """Return a disk whose blocks are all acknowledged once, with these generations on it."""
    disk = Disk(directory / "disk", Journal(directory / "journal"))
    create(disk.path, blocks=BLOCKS, block_size=SIZE, seed=SEED)
    start = {"ns": 1, "event": "start", "blocks": BLOCKS, "block_size": SIZE, "seed": SEED}
    disk.journal.path.write_text(json.dumps(start) + "\n")
    acknowledge(disk, 0, BLOCKS - 1, 1)
    for block, generation in generations.items():
        put(disk, block, fmt.pack(SEED, block, generation, SIZE))
    return disk


def acknowledge(disk: Disk, first: int, last: int, generation: int) -> None:
    line = {"ns": 2, "event": "ack", "first": first, "last": last, "generation": generation}
    with disk.journal.path.open("a") as journal:
        journal.write(json.dumps(line) + "\n")


def put(disk: Disk, block: int, data: bytes) -> None:
    with disk.path.open("r+b") as file:
        file.seek(fmt.offset(block, SIZE))
        file.write(data)


@pytest.fixture
def whole(tmp_path: Path) -> Disk:
    return written(tmp_path, dict.fromkeys(range(BLOCKS), 1))


@pytest.fixture(scope="module")
def shared() -> Iterator[Disk]:
    with tempfile.TemporaryDirectory() as directory:
        yield written(Path(directory), dict.fromkeys(range(BLOCKS), 1))


def test_everything_on_disk_is_ok(whole: Disk) -> None:
    audit = whole.audit()
    assert audit.ok
    assert audit.acknowledged == list(range(BLOCKS))
    assert str(audit) == "all 8 acknowledged blocks on disk"


def test_blank_blocks_are_lost_and_said_in_ranges(tmp_path: Path) -> None:
    audit = written(tmp_path, {0: 1, 1: 1, 4: 1}).audit()
    assert audit.lost == [2, 3, 5, 6, 7]
    assert str(audit) == "5 of 8 blocks lost: 2-3, 5-7"


def test_half_a_block_is_torn(whole: Disk) -> None:
    put(whole, 3, fmt.pack(SEED, 3, 2, SIZE)[: SIZE // 2])
    assert whole.audit().torn == [3]


def test_an_older_generation_is_stale(whole: Disk) -> None:
    acknowledge(whole, 2, 3, 2)
    audit = whole.audit()
    assert audit.stale == [2, 3]
    assert audit.lost + audit.torn + audit.phantom == []
    put(whole, 2, fmt.pack(SEED, 2, 2, SIZE))
    assert whole.audit().stale == [3]


@pytest.mark.parametrize(
    "content",
    [
        fmt.pack(SEED, 4, 1, SIZE),
        fmt.pack(SEED, 3, 2, SIZE),
        fmt.pack(SEED, 3, 0, SIZE),
        fmt.pack(SEED + 1, 3, 1, SIZE),
    ],
    ids=["of another place", "never acknowledged", "generation 0", "of another seed"],
)
def test_a_whole_block_that_the_guest_never_wrote_is_a_phantom(whole: Disk, content: bytes) -> None:
    put(whole, 3, content)
    assert whole.audit().phantom == [3]


def test_data_where_nothing_was_acknowledged_is_a_phantom(whole: Disk) -> None:
    lines = whole.journal.path.read_text().splitlines(keepends=True)
    whole.journal.path.write_text(lines[0])
    acknowledge(whole, 0, BLOCKS - 2, 1)
    audit = whole.audit()
    assert audit.phantom == [BLOCKS - 1]
    put(whole, BLOCKS - 1, bytes(SIZE))
    assert whole.audit().ok


def test_only_the_last_start_counts(whole: Disk) -> None:
    text = whole.journal.path.read_text()
    acknowledge(whole, 0, 7, 9)
    whole.journal.path.write_text(whole.journal.path.read_text() + text)
    assert whole.audit().ok


def test_a_missing_file_is_everything_lost(whole: Disk) -> None:
    whole.path.unlink()
    audit = whole.audit()
    assert audit.lost == audit.acknowledged == list(range(BLOCKS))
    assert "No such file" in str(audit)


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_what_is_no_file_is_everything_lost(whole: Disk, kind: str) -> None:
    whole.path.unlink()
    if kind == "directory":
        whole.path.mkdir()
    else:
        os.mkfifo(whole.path)
    audit = whole.audit()
    assert audit.lost == list(range(BLOCKS))
    assert audit.problem is not None


def test_a_file_of_another_format_is_everything_lost(whole: Disk) -> None:
    whole.path.write_bytes(b"QFI\xfb" + whole.path.read_bytes()[4:])
    audit = whole.audit()
    assert audit.lost == list(range(BLOCKS))
    assert "not a fake's disk" in str(audit)


def test_a_damaged_header_is_a_problem_and_the_blocks_are_still_judged(whole: Disk) -> None:
    with whole.path.open("r+b") as file:
        file.seek(20)
        file.write(b"\xff")
    audit = whole.audit()
    assert not audit.lost
    assert not audit.ok
    assert "header" in str(audit)


def test_a_truncated_file_has_lost_its_end(whole: Disk) -> None:
    os.truncate(whole.path, fmt.offset(5, SIZE) + 100)
    audit = whole.audit()
    assert audit.lost == [6, 7]
    assert audit.torn == [5]
    assert "truncated" in str(audit)


def test_a_longer_file_is_a_problem(whole: Disk) -> None:
    with whole.path.open("ab") as file:
        file.write(b"x")
    assert "1 bytes too long" in str(whole.audit())


@pytest.mark.parametrize(
    "journal", [b"", b"\x00\xff\n", b"[]\n{}\n1\n", b'{"ns": 1, "event": "start"}\n', b"[" * 9999]
)
def test_without_a_record_of_a_start_nothing_is_known(whole: Disk, journal: bytes) -> None:
    whole.journal.path.write_bytes(journal)
    audit = whole.audit()
    assert not audit.ok
    assert audit.acknowledged == []
    assert "no record of a start" in str(audit)


def wrote(disk: Disk, generations: dict[int, int]) -> None:
    """Journal that the VM has written these blocks."""
    with disk.journal.path.open("a") as journal:
        for index, generation in generations.items():
            line = {"ns": 3, "event": "block", "index": index, "generation": generation}
            journal.write(json.dumps(line) + "\n")


def test_what_was_never_written_is_no_damage(tmp_path: Path) -> None:
    disk = written(tmp_path, {0: 1, 1: 1})
    wrote(disk, {0: 1, 1: 1})
    audit = disk.audit()
    assert audit.lost == [2, 3, 4, 5, 6, 7]
    assert audit.damaged is None


BLANK = bytes(SIZE)


@pytest.mark.parametrize(
    "content",
    [BLANK, fmt.pack(SEED, 3, 1, SIZE)[:100] + BLANK[100:], fmt.pack(SEED, 2, 1, SIZE)],
    ids=["blank", "torn", "of another place"],
)
def test_a_block_that_was_written_and_is_not_there_is_damage(whole: Disk, content: bytes) -> None:
    wrote(whole, dict.fromkeys(range(BLOCKS), 1))
    put(whole, 3, content)
    audit = whole.audit()
    assert audit.damaged == audit.problem
    assert "disk" in str(audit.damaged)
    assert "blocks 3 were overwritten after the VM wrote them" in str(audit)


def test_a_newer_generation_that_was_written_and_is_older_is_damage(whole: Disk) -> None:
    acknowledge(whole, 3, 3, 2)
    wrote(whole, {3: 1})
    audit = whole.audit()
    assert (audit.stale, audit.damaged) == ([3], None)
    wrote(whole, {3: 2})
    assert whole.audit().damaged is not None


def test_half_of_a_newer_generation_is_no_damage(whole: Disk) -> None:
    wrote(whole, {3: 1})
    acknowledge(whole, 3, 3, 2)
    put(whole, 3, fmt.pack(SEED, 3, 2, SIZE)[: SIZE // 2])
    audit = whole.audit()
    assert (audit.torn, audit.damaged) == ([3], None)


def _unlink(disk: Disk) -> None:
    disk.path.unlink()


def _empty(disk: Disk) -> None:
    disk.path.write_bytes(b"")


def _cut(disk: Disk) -> None:
    os.truncate(disk.path, fmt.offset(5, SIZE))


def _lengthen(disk: Disk) -> None:
    with disk.path.open("ab") as file:
        file.write(b"x")


def _emptied_and_written_on(disk: Disk) -> None:
    disk.path.write_bytes(b"")
    put(disk, BLOCKS - 1, fmt.pack(SEED, BLOCKS - 1, 1, SIZE))


def _other_header(disk: Disk) -> None:
    with disk.path.open("r+b") as file:
        file.write(fmt.pack_header(BLOCKS, SIZE, SEED + 1))


def _unlink_journal(disk: Disk) -> None:
    disk.journal.path.unlink()


def _empty_journal(disk: Disk) -> None:
    disk.journal.path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage",
    [
        *(_unlink, _empty, _cut, _lengthen, _emptied_and_written_on, _other_header),
        *(_unlink_journal, _empty_journal),
    ],
)
def test_damage_from_outside_is_named_as_such(whole: Disk, damage: Callable[[Disk], None]) -> None:
    assert whole.audit().damaged is None
    damage(whole)
    audit = whole.audit()
    assert not audit.ok
    assert audit.damaged == audit.problem
    assert "disk" in str(audit.damaged)


def test_the_dirty_byte_is_told(whole: Disk) -> None:
    assert not whole.audit().dirty
    with whole.path.open("r+b") as file:
        file.seek(fmt.DIRTY_OFFSET)
        file.write(b"\x01")
    assert whole.audit().dirty


@QUIET
@given(flip=st.integers(0, (fmt.HEADER_SIZE + BLOCKS * SIZE) * 8 - 1))
def test_every_single_wrong_bit_is_found(shared: Disk, flip: int) -> None:
    right = shared.path.read_bytes()
    byte, bit = divmod(flip, 8)
    wrong = bytearray(right)
    wrong[byte] ^= 1 << bit
    try:
        shared.path.write_bytes(wrong)
        audit = shared.audit()
    finally:
        shared.path.write_bytes(right)
    if byte == fmt.DIRTY_OFFSET and bit == 0:
        assert audit.dirty
        return
    assert not audit.ok
    if byte >= fmt.HEADER_SIZE:
        assert (byte - fmt.HEADER_SIZE) // SIZE in audit.torn + audit.phantom


@QUIET
@given(content=st.binary(max_size=6000), keep=st.integers(0, 6000), at=st.integers(0, 12000))
def test_no_content_of_the_file_is_a_traceback(
    shared: Disk, content: bytes, keep: int, at: int
) -> None:
    right = shared.path.read_bytes()
    try:
        for wrong in (content, right[:keep] + content, right[:at] + content + right[at:]):
            shared.path.write_bytes(wrong)
            audit = shared.audit()
            assert str(audit)
            assert audit.ok is (wrong == right)
    finally:
        shared.path.write_bytes(right)


@QUIET
@given(content=st.binary(max_size=400), cut=st.integers(0, 200))
def test_no_content_of_the_journal_is_a_traceback(shared: Disk, content: bytes, cut: int) -> None:
    right = shared.journal.path.read_bytes()
    try:
        for wrong in (content, right[:cut] + content, right + content + b"\n"):
            shared.journal.path.write_bytes(wrong)
            assert str(shared.audit())
    finally:
        shared.journal.path.write_bytes(right)


@QUIET
@given(
    fields=st.dictionaries(
        st.sampled_from(["blocks", "block_size", "seed", "first", "last", "generation"]),
        st.one_of(st.integers(), st.none(), st.text(), st.booleans(), st.lists(st.integers())),
    ),
    event=st.sampled_from(["start", "ack"]),
)
def test_no_numbers_in_the_journal_are_a_traceback(
    shared: Disk, fields: dict[str, object], event: str
) -> None:
    right = shared.journal.path.read_text()
    line = json.dumps({"ns": 1, "event": event, **fields}) + "\n"
    try:
        shared.journal.path.write_text(right + line)
        assert str(shared.audit())
    finally:
        shared.journal.path.write_text(right)


def test_the_format_is_the_same_on_every_python() -> None:
    """Figures of one run, kept: an audit may run under another Python than the fake did."""
    import zlib  # only here

    assert zlib.crc32(fmt.pack(1, 2, 3, 4096)) == 2863159688
    assert zlib.crc32(fmt.pack_header(64, 4096, 7)) == 246941460


def test_large_blocks_repeat_every_4096_bytes() -> None:
    body = fmt.payload(1, 2, 3, 10_000)
    assert len(body) == 10_000
    assert body[:4096] == body[4096:8192]
    assert body[:64] != body[64:128]


@pytest.mark.parametrize(
    ("blocks", "text"),
    [([], ""), ([3], "3"), ([1, 2, 3, 7, 9, 10], "1-3, 7, 9-10"), ([5, 4], "4-5")],
)
def test_ranges(blocks: list[int], text: str) -> None:
    assert ranges(blocks) == text


def test_an_audit_says_all_that_is_wrong() -> None:
    audit = Audit(acknowledged=list(range(64)), lost=list(range(42, 64)), torn=[41], problem="p")
    assert str(audit) == "22 of 64 blocks lost: 42-63; 1 of 64 blocks torn: 41; p"
