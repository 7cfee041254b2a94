"""The right words for each report of a call in each state of the VM at that moment, with reasons.

docs/trial.md shows this table, and test_every_cell.py runs every cell with every kind of routine.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

#: Columns of a list in a page.
_WIDTH = 110

#: What a routine reports, by a short name, as people read it.
REPORTS = {
    "success": "success",
    "False": "`False`",
    "time-out": "an exception that means a time-out",
    "exception": "any other exception",
    "BaseException": "`pytest.skip()`, or another `BaseException`",
    "cancellation": "a cancellation",
}

#: The state of the VM at the report.
STATES = {
    "reaped": "dead, and reaped by the routine",
    "long dead": "dead for more than 20 ms",
    "just dead": "dead for less than 20 ms",
    "flushing": "asked, and still flushing",
    "lives on": "asked, and lives on",
    "never asked": "alive, and never asked",
    "restarted": "dead, and started again",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The broken words of a cell, none for ok, and the reason."""

    words: frozenset[str]
    why: str

    def __str__(self) -> str:
        return f"{', '.join(sorted(self.words)) or 'ok'}: {self.why}"


def _cell(words: str, why: str) -> Cell:
    return Cell(words=frozenset(filter(None, words.split(", "))), why=why)


_TRUE = _cell("", "the report is true")
_DEAD = "the VM has ended, as was requested, and the routine could know it"
_TRUTHFUL = _cell("", "the VM still runs, so the failure is true")
_UNASKED = _cell("NEVER ASKED", "no request was made, so the failure is the routine's own")
_LEAKED = "success was reported, and the VM goes on running"
_CANCELLED = _cell("", "a cancelled call claims nothing, and the VM has ended or will end")
_RESTARTED = "the VM runs again, whatever was reported"
_DEAD_AND_RESTARTED = "the routine could know that the VM had ended, and the VM runs again"


def _row(state: str, *cells: Cell) -> dict[tuple[str, str], Cell]:
    return {(report, state): cell for report, cell in zip(REPORTS, cells, strict=True)}


_LIED, _RAISED = _cell("LIED", _DEAD), _cell("RAISED", _DEAD)
_AGAIN = _cell("RESTARTED", _RESTARTED)

#: The right words for each report and state.
CELLS: dict[tuple[str, str], Cell] = {
    **_row("reaped", _TRUE, _LIED, _RAISED, _RAISED, _RAISED, _CANCELLED),
    **_row("long dead", _TRUE, _LIED, _RAISED, _RAISED, _RAISED, _CANCELLED),
    **_row(
        "just dead",
        _TRUE,
        _cell("", "the last look may have been before the end"),
        _cell("", "the wait may have run out just before the end"),
        _cell(
            "RAISED",
            "only a wait that runs out can miss the end, and this exception says nothing of time",
        ),
        _cell(
            "RAISED",
            "only a wait that runs out can miss the end, and this exception says nothing of time",
        ),
        _CANCELLED,
    ),
    **_row(
        "flushing",
        _cell("EARLY", "the VM still wrote to its disk when success was reported"),
        *[_TRUTHFUL] * 4,
        _CANCELLED,
    ),
    **_row(
        "lives on",
        _cell("LEAKED", _LEAKED),
        *[_TRUTHFUL] * 4,
        _cell("LEAKED", "after the cancellation nothing ends the VM"),
    ),
    **_row(
        "never asked",
        _cell("LEAKED, NEVER ASKED", f"{_LEAKED}, since no request was made"),
        *[_UNASKED] * 4,
        _cell("LEAKED", "after the cancellation nothing ends the VM"),
    ),
    **_row(
        "restarted",
        _AGAIN,
        _cell("LIED, RESTARTED", _DEAD_AND_RESTARTED),
        *[_cell("RAISED, RESTARTED", _DEAD_AND_RESTARTED)] * 3,
        _AGAIN,
    ),
}


def table() -> str:
    """The table as Markdown: a row for each report, a column for each state."""
    head = "| the call reports | " + " | ".join(f"VM {state}" for state in STATES.values()) + " |"
    rows = [head, "| --- " * (len(STATES) + 1) + "|"]
    for report, shown in REPORTS.items():
        words = [", ".join(sorted(CELLS[report, state].words)) or "ok" for state in STATES]
        rows.append(f"| {shown} | {' | '.join(words)} |")
    return "\n".join(rows)


def reasons() -> str:
    """The reason for each cell of the table, as a Markdown list without repetitions."""
    found = dict.fromkeys((", ".join(sorted(cell.words)), cell.why) for cell in CELLS.values())
    by_words: dict[str, list[str]] = {}
    for words, why in found:
        by_words.setdefault(words or "ok", []).append(why)
    lines = [
        textwrap.fill(
            f"- {words}: {'; or '.join(whys)}.",
            _WIDTH,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for words, whys in by_words.items()
    ]
    return "\n".join(lines)
