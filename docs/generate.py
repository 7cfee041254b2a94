"""Write what is generated into README.md and docs: terminal output, and the reference's tables.

``python docs/generate.py`` writes what has changed in more than its figures, ``--all`` the figures
too, ``--check`` says what is out of date and exits 1. Run it with the Python that the project and
pytest are installed in.
"""

from __future__ import annotations

import difflib
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # started as a script, Python knows the folder of the script only
    sys.path.insert(0, str(ROOT))

from docs import console, figures, tables  # noqa: E402 - see above
from docs.blocks import PAGES, Block, outputs  # noqa: E402

#: Enough to hide that most of a trial is waiting, few enough not to disturb the figures.
_AT_ONCE = 2


def regions_in(source: str) -> list[str]:
    """The names of the generated parts of a page."""
    return re.findall(r"^<!-- generated: ([a-z-]+) -->$", source, re.MULTILINE)


def with_regions(source: str) -> str:
    """The page with its generated parts made anew."""
    for name in regions_in(source):
        begin, end = f"<!-- generated: {name} -->\n", f"<!-- end: {name} -->"
        before, rest = source.split(begin)
        _, after = rest.split(end)
        source = f"{before}{begin}\n{tables.REGIONS[name]()}\n\n{end}{after}"
    return source


def with_outputs(source: str, printed: dict[Block, str]) -> str:
    """The page with these blocks replaced, the last one first: the others keep their places."""
    for block in sorted(printed, key=lambda block: block.span, reverse=True):
        start, end = block.span
        source = source[:start] + printed[block] + source[end:]
    return source


def differences(block: Block, printed: str) -> str:
    """What differs between a block and its fresh text, figures apart; empty if nothing does."""
    there, fresh = figures.masked(block.text), figures.masked(printed)
    lines = difflib.unified_diff(
        there.splitlines(), fresh.splitlines(), str(block), "printed now", n=1, lineterm=""
    )
    return "".join(f"{line}\n" for line in lines)


def main() -> int:
    """Write, or check."""
    only_check, figures_too = "--check" in sys.argv[1:], "--all" in sys.argv[1:]
    blocks = outputs()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        fresh = dict(zip(blocks, pool.map(console.run, blocks), strict=True))
    changed = {
        block: text for block, text in fresh.items() if figures_too or differences(block, text)
    }
    stale = [f"{block}\n{differences(block, text)}" for block, text in changed.items()]
    for page in PAGES:
        source = page.read_text(encoding="utf-8")
        there = {block: text for block, text in changed.items() if block.page == page}
        wanted = with_regions(with_outputs(source, there))
        if with_regions(source) != source:
            stale.append(f"{page.relative_to(ROOT)}: a generated table")
        if wanted != source and not only_check:
            page.write_text(wanted, encoding="utf-8")
    verb = "out of date" if only_check else "written"
    sys.stdout.write("".join(f"{verb}: {what}\n" for what in stale) or "nothing to write\n")
    return 1 if stale and only_check else 0


if __name__ == "__main__":
    sys.exit(main())
