"""The tables of "How far the fake is QEMU": what `python tests/real/agreement_figures.py` saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

FIGURES = Path(__file__).parent / "agreement.json"


def summary() -> str:
    """With which QEMU, and how it came out."""
    kept = _kept()
    facts = sum(len(row["real"]) for row in kept["rows"])
    differ = sum(len(row["differences"]) for row in kept["rows"])
    return (
        f"Compared with QEMU {kept['qemu']}: {len(kept['rows'])} scenarios, {facts} facts, of which"
        f" {differ} differ."
    )


def table() -> str:
    """A row for each scenario."""
    head = ("what is done", "facts", "outcome")
    rows = []
    for row in _kept()["rows"]:
        differ = len(row["differences"])
        outcome = (
            "agree" if not differ else f"{differ} differs" if differ == 1 else f"{differ} differ"
        )
        rows.append((_cell(row["scenario"]), str(len(row["real"])), outcome))
    return _table(head, rows)


def differences() -> str:
    """What is not the same, and why."""
    head = ("what is done", "fact", "the fake", "QEMU", "why")
    rows = [
        (_cell(row["scenario"]), _cell(name), *(_shown(row[kind][name]) for kind in KINDS), why)
        for row in _kept()["rows"]
        for name, why in row["differences"].items()
    ]
    return _table(head, rows)


def details() -> str:
    """Every fact that is the same."""
    parts = []
    for row in _kept()["rows"]:
        same = [
            (_cell(name), _shown(value))
            for name, value in row["real"].items()
            if name not in row["differences"]
        ]
        parts.append(f"### {row['scenario']}\n\n{_table(('fact', 'seen of both'), same)}")
    return "\n\n".join(parts)


KINDS = ("fake", "real")


def _shown(value: object) -> str:
    """As it was seen, a line for each."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "<br>".join(f"{_cell(name)}: {_shown(part)}" for name, part in value.items())
    if isinstance(value, list):
        return "<br>".join(_shown(part) for part in value) or "nothing"
    text = _cell(str(value))
    return f"`{text}`" if text else "none"


def _cell(text: str) -> str:
    # a long run of one letter says no more than a short one
    return text.replace("|", "\\|").replace("x" * 108, "x...x")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _kept() -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8"))
    return kept
