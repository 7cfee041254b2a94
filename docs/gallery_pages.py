"""The text of the gallery: a page for each word, and the index over them.

Everything on a page but the report follows from the sources; the report is that of the trial whose
picture stands beside it.
"""

from __future__ import annotations

import ast
import re
import textwrap
from typing import TYPE_CHECKING

from docs import tables
from docs.blocks import ROOT
from docs.exhibits import EXHIBITS, FOLDER, slug

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: What a file of tests/flaws has for its test, beside the routine and its trial.
_EXPECTED = ("CAUGHT", "NAMES", "EXPLORE", "EXPLORED")
_NOTE = "<!-- written by: python docs/gallery.py -->"


def words() -> dict[str, str]:
    """Every word there is, and its meaning."""
    return {word: text for named in tables.WORDS.values() for word, text in named.items()}


def page(word: str, report: str) -> str:
    """The page of one word."""
    exhibit = EXHIBITS[word]
    parts = [
        f"# {word}",
        f"{_NOTE}\n\n{_sentence(words()[word])}",
        f"## The wrong code\n\n{_source(exhibit.wrong)}",
        f"## The picture\n\n[![{_told(report)}]({slug(word)}.svg)]({slug(word)}.svg)",
        f"## The report\n\n<!-- kept -->\n```text\n{report}\n```",
        f"## How to mend it\n\n{_wrapped(exhibit.mend)}",
    ]
    if exhibit.right is not None:
        parts.append(f"A routine that does it right:\n\n{_source(exhibit.right)}")
    return "\n\n".join(parts) + "\n"


def report_in(page_: str) -> str:
    """The report that is kept on a page."""
    return page_.split("<!-- kept -->\n```text\n")[1].partition("\n```\n")[0]


def index() -> str:
    """Every picture, small, by verdict."""
    return "\n".join(_index())


def _index() -> Iterator[str]:
    yield "# Every word in pictures\n"
    yield f"{_NOTE}\n"
    yield (
        "A page for each word that a report can say: a routine that gets it, the picture of a trial"
        " of it, the\nreport, and how to mend it. The routines are those that the plugin itself is"
        " [tested with](../flaws.md),\nand each is wrong in one line. A picture can be opened alone"
        " by a click on it; the one that\n`report.save(directory)` writes can be zoomed into.\n"
    )
    for verdict, named in tables.WORDS.items():
        yield f"## `{verdict}`\n"
        yield "| word | meaning | picture |\n| --- | --- | --- |"
        for word, text in named.items():
            link = f"{slug(word)}.md"
            thumb = f"[![{word}]({slug(word)}.svg)]({link})"
            yield f"| [{word}]({link}) | {text} | {thumb} |"
        yield ""
    yield "<!-- sphinx -->\n```{toctree}\n:hidden:\n"
    yield from (slug(word) for word in words())
    yield "```\n"


def picture_of(word: str) -> Path:
    """Where the picture of a word is."""
    return FOLDER / f"{slug(word)}.svg"


def page_of(word: str) -> Path:
    """Where the page of a word is."""
    return FOLDER / f"{slug(word)}.md"


def _source(path: Path) -> str:
    """The file, without what its test expects of it."""
    lines: list[str | None] = list((ROOT / path).read_text(encoding="utf-8").splitlines())
    for statement in ast.parse("\n".join(line or "" for line in lines)).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) in _EXPECTED:
            last = statement.end_lineno or statement.lineno
            lines[statement.lineno - 1 : last] = [None] * (last - statement.lineno + 1)
    text = "\n".join(line for line in lines if line is not None).strip()
    text = re.sub(r"\n{4,}", "\n\n\n", text)
    return f"<!-- source: {path} -->\n```python\n{text}\n```"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 110, break_long_words=False, break_on_hyphens=False)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _told(report: str) -> str:
    """What stands in place of the picture: its first line."""
    return report.partition("\n")[0].replace("[", "(").replace("]", ")")
