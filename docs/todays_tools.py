"""The tables of "How today's tools do", of the figures that `python tests/field` has measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).parent / "todays-tools.json"

#: What a manager or command is handed, in words for a reader who has not met the parameter yet.
GETS = {
    "popen": "a `Popen`",
    "process": "a `psutil.Process`",
    "pid": "a pid",
    "child": "starts it itself",
    "external": "external command",
}


def table() -> str:
    """Blocks lost by flush time; the survey's figure in parentheses where it is another one."""
    kept = _kept()
    times = [f"{seconds:g} s" for seconds in kept["flush_times"]]
    head = ["routine", "version", "the VM", "seen at 12 s", *times, "the report at 12 s"]
    lines = [head, ["---"] * len(head)]
    lines += [
        [
            f"`{row['call']}`",
            row["version"],
            GETS[row["gets"]],
            row["seen"],
            *_lost(row),
            row["words"][-1],
        ]
        for row in kept["rows"]
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def sources() -> str:
    """Where each routine stands, what its source says, and what the figures do not show."""
    items = []
    for row in _kept()["rows"]:
        text = f"- `{row['call']}` ({row['source']}): {row['steps']}"
        items.append("; ".join(part for part in (text, row["remark"]) if part) + ".")
    return "\n".join(items)


def differences() -> str:
    """Why a figure is farther from the survey's than a block."""
    explained = [
        f"- `{row['call']}`: {row['explained']}." for row in _kept()["rows"] if row["explained"]
    ]
    return "\n".join(explained) or "None is farther apart than one block of 20."


def _kept() -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8"))
    return kept


def _lost(row: dict[str, Any]) -> list[str]:
    survey = row["survey"] or row["lost"]
    cells = []
    for here, there in zip(row["lost"], survey, strict=True):
        shown = "runs on" if here is None else str(here)
        if here != there:
            shown += f" ({'runs on' if there is None else there})"
        cells.append(shown)
    return cells
