"""The fenced blocks of a Markdown page, and the comment before each that says what it is.

``<!-- file: NAME -->``: the block is a file of the page's folder. ``<!-- output -->``: a console
block; its commands run in that folder, and what stands below each is what it printed.
``<!-- command: NAME -->``: a console block that .ci/run executes; it is not run here.
``<!-- source: PATH -->``, ``<!-- kept -->``: an excerpt of a file, or what a longer measurement has
printed; both are part of what is generated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted(Path(__file__).parent.glob("*.md")))

_FENCED = re.compile(
    r"(?:^<!-- (?P<kind>[a-z]+)(?:: (?P<name>[^\n]*?))? -->\n+)?"
    r"^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block; ``span`` is where its text stands in the page, ``line`` is for people."""

    page: Path
    kind: str
    name: str
    language: str
    text: str
    span: tuple[int, int]
    line: int

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands of a console block, without the prompt."""
        return [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]


def blocks_of(page: Path) -> list[Block]:
    """Every fenced block of a page, in order."""
    source = page.read_text(encoding="utf-8")
    return [
        Block(
            page=page,
            kind=found["kind"] or "",
            name=found["name"] or "",
            language=found["language"],
            text=found["text"],
            span=found.span("text"),
            line=source.count("\n", 0, found.start("language")) + 1,
        )
        for found in _FENCED.finditer(source)
    ]


def files_before(block: Block) -> dict[str, str]:
    """The page's files as a reader has them on coming to this block: name -> text."""
    return {
        other.name: other.text
        for other in blocks_of(block.page)
        if other.kind == "file" and other.span < block.span
    }


def outputs() -> list[Block]:
    """Every block of every page whose text is printed by its commands."""
    return [block for page in PAGES for block in blocks_of(page) if block.kind == "output"]
