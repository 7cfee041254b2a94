"""What a reader can copy works, and what is shown is what is printed."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from docs import console, figures, generate, tables
from docs.blocks import PAGES, ROOT, Block, blocks_of, files_before, outputs

if TYPE_CHECKING:
    from pathlib import Path

RUN = (ROOT / ".ci/run").read_text()
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
LONGEST_LINE = 140
#: A machine that is too busy makes a polling routine SLOW, once; what is wrong is wrong each time.
ATTEMPTS = 3


@pytest.mark.parametrize("block", outputs(), ids=str)
def test_output_is_what_its_commands_print(request: pytest.FixtureRequest, block: Block) -> None:
    assert block.commands
    if any("real_qemu" in text for text in files_before(block).values()):
        # where QEMU is not installed, this is skipped here, or fails
        request.getfixturevalue("real_qemu")(blocks=1)
    difference = ""
    for _ in range(ATTEMPTS):
        difference = generate.differences(block, console.run(block))
        if not difference:
            break
    assert not difference, f"run python docs/generate.py, and read what changed:\n{difference}"


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block_says_what_it_is(block: Block) -> None:
    known = {"file": True, "output": False, "command": True, "sphinx": False}
    known |= {"source": True, "kept": False}
    assert block.kind in known, f"{block}: a comment in the line before it has to say what it is"
    assert bool(block.name) == known[block.kind], f"{block}: {block.kind} {block.name!r}"
    if block.kind in ("output", "command"):
        assert block.language == "console"
    if block.kind == "sphinx":
        assert block.language == "{toctree}", "only what Sphinx reads is neither run nor shown"


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.kind == "file"], ids=str)
def test_file_is_used_by_an_output_below_it(block: Block) -> None:
    """A file that nothing runs could say anything."""
    later = [b for b in blocks_of(block.page) if b.span > block.span]
    replaced = next((b.span for b in later if b.name == block.name), None)
    runs = [b for b in later if b.kind == "output" and (replaced is None or b.span < replaced)]
    assert runs, f"{block}: no console block below runs {block.name}"


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.kind in ("source", "kept")], ids=str)
def test_what_is_not_run_is_generated(block: Block) -> None:
    """An excerpt of a file, or what a longer measurement has printed: nobody writes it by hand."""
    before = block.page.read_text(encoding="utf-8")[: block.span[0]]
    assert before.count("<!-- generated: ") == before.count("<!-- end: ") + 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_fence_is_a_block(page: Path) -> None:
    """A fence that the pattern does not see would not be run."""
    fences = re.findall(r"^ *(?:```|~~~)", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) == 2 * len(blocks_of(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_tables_are_those_of_the_code(page: Path) -> None:
    source = page.read_text(encoding="utf-8")
    assert generate.with_regions(source) == source, "run python docs/generate.py"


def test_every_table_is_shown() -> None:
    shown = {
        name for page in PAGES for name in generate.regions_in(page.read_text(encoding="utf-8"))
    }
    assert shown == set(tables.REGIONS)


def test_nothing_of_this_machine_is_in_an_output() -> None:
    for block in outputs():
        paths = re.findall(r"(?<![\w.])/(?:tmp|home|root|work|usr|opt|var)\b\S*", block.text)
        assert not paths, block
        assert len(max(block.text.splitlines(), key=len)) <= LONGEST_LINE, block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[\w-]+)?\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("name", ["judge", "tests"])
def test_ci_runs_the_readmes_commands(name: str) -> None:
    (block,) = (b for b in BLOCKS if b.kind == "command" and b.name == name)
    found = subprocess.run(
        [sys.executable, ROOT / ".ci" / "readme.py", name],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert found.stdout.splitlines() == block.commands
    parts = re.findall(rf'^ *run_readme {name} "\$\w+" ?(\w*)$', RUN, re.MULTILINE)
    assert sorted(parts) in ([""], ["installs", "tests"])
    # where its halves are run apart, they are the whole of it
    assert parts == [""] or [line.count(" && ") for line in block.commands] == [2]


def test_readme_has_no_other_commands_for_the_set_up() -> None:
    assert [b.name for b in BLOCKS if b.kind == "command"] == ["judge", "tests"]


SHOWN = """\
E   AssertionError: gracekill: DATA LOST (22 of 64 blocks: 42-63), KILLED EARLY
E     data        DATA LOST     blocks 42-63 acknowledged, never on disk; last durable: 41 at
E                               t+1.578
E     escalation  KILLED EARLY  SIGTERM t+0.002, SIGKILL t+1.605; the flush needed 2.40 s, the grace
E                               was 1.60 s
E     progress    ok            8 contenders, longest stall 36 ms during the wait (0.7 ms before it)
1 failed in 4.74s
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(22 of 64 blocks: 42-63)", "(9 of 64 blocks: 55-63)"),
        ("blocks 42-63 acknowledged", "blocks 43-63 acknowledged"),
        ("t+1.578", "t+12.001"),
        ("the grace\nE                               was 1.60 s", "the grace was 1.61 s"),
        ("36 ms", "3.6 ms"),
        ("4.74s", "14.74s"),
    ],
)
def test_figures_that_time_decides_are_no_difference(old: str, new: str) -> None:
    assert old in SHOWN
    assert figures.masked(SHOWN.replace(old, new)) == figures.masked(SHOWN)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("DATA LOST (", "TORN ("),
        ("of 64 blocks", "of 63 blocks"),
        ("-63 acknowledged", "-62 acknowledged"),
        ("never on disk", "not on disk"),
        ("needed 2.40 s", "needed 2.50 s"),
        ("SIGKILL t", "SIGTERM t"),
        ("8 contenders", "7 contenders"),
        ("1 failed", "2 failed"),
        ("E     progress    ok ", "E     progress    STALLED "),
        ("E     data ", "E     date "),
    ],
)
def test_anything_else_is_a_difference(old: str, new: str) -> None:
    assert old in SHOWN
    assert figures.masked(SHOWN.replace(old, new, 1)) != figures.masked(SHOWN)
