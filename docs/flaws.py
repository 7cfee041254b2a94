"""The tables of the routines that the plugin is tested with, wrong ones and right ones."""

from __future__ import annotations

import ast
import re
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from docs.blocks import ROOT
from pytest_gracekill.routine.adapt import adapt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FOLDER = ROOT / "tests" / "flaws"

#: What a routine gets, by the kind of its first parameter.
GETS = {"external": "`External`"}


def wrong() -> str:
    """Every wrong routine: its failure mode, what it does, and what it is caught by."""
    rows = []
    for path in sorted(FOLDER.glob("flaw_*.py")):
        specimen = load(path)
        caught = "; ".join(
            f"`{verdict}`: {word if isinstance(word, str) else ' or '.join(word)}"
            for verdict, word in specimen.caught.items()
        )
        rows.append((f"`{path.name}`", mode(path), _told(path), _gets(specimen), caught))
    return _table(("file", "failure mode", "what it does", "takes", "caught by"), rows)


def right() -> str:
    """Every right routine, and what it takes."""
    rows = [
        (f"`{path.name}`", _told(path), _gets(load(path)))
        for path in sorted(FOLDER.glob("right_*.py"))
    ]
    return _table(("file", "what it does", "takes"), rows)


def mode(path: Path) -> str:
    """The failure mode that the wrong line is marked with."""
    found = re.search(r"# FLAW ([a-z0-9-]+)", path.read_text(encoding="utf-8"))
    assert found is not None, path
    return found[1]


def load(path: Path) -> Any:
    """As its test loads it."""
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    return import_module("test_flaws").load(path)


def _gets(specimen: Any) -> str:
    adapted = adapt(specimen.routine)
    form = " (async)" if adapted.asynchronous else ""
    return GETS.get(adapted.kind, f"`{adapted.kind}`") + form


def _told(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split()).replace("|", "\\|")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
