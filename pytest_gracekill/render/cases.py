"""The table at the end of a run of the suite: case, verdict, one line of evidence."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from pytest_gracekill.conformance.rows import read_first
from pytest_gracekill.counted import counted
from pytest_gracekill.render.text import reasons
from pytest_gracekill.report import VERDICTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gracekill.conformance.rows import Row

_WIDTH = 100


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The lines: the cases by name, which ones to read first, and what was judged at all."""
    rows = sorted(rows, key=lambda row: row["id"])
    first = max(len(row["id"]) for row in rows) + 2
    second = max(len(_word(row)) for row in rows) + 2
    for row in rows:
        head = row["id"].ljust(first) + _word(row).ljust(second)
        yield head + _cut(row["evidence"], _WIDTH - len(head)) if row["evidence"] else head.rstrip()
    urgent = read_first(rows)
    if urgent:
        yield ""
        yield "read first:"
    for row in urgent:
        yield from _wrapped(
            f"{row['id']} ({row['verdict']}): {row['contract']} Failure modes: {row['modes']}.",
            first="  ",
            indent="    ",
        )
    yield from _judged(rows)


def _judged(rows: Sequence[Row]) -> Iterator[str]:
    """In how many cases each verdict was judged, and which in none, with the reasons."""
    tried = [row for row in rows if row["judged"] or row["not_judged"]]
    if not tried:
        return
    counts = {name: sum(name in row["judged"] for row in tried) for name in VERDICTS}
    told = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    yield ""
    yield from _wrapped(f"judged in {counted(len(tried), 'case')}: {told}")
    never = {
        name: row["not_judged"][name]
        for row in tried
        for name in VERDICTS
        if not counts[name] and name in row["not_judged"]
    }
    if never:
        yield from _wrapped(f"judged in none: {reasons(never)}")


def _wrapped(text: str, *, first: str = "", indent: str = "  ") -> list[str]:
    return textwrap.wrap(
        text,
        width=_WIDTH,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def headline(rows: Sequence[Row]) -> str:
    """How many of how many were ok."""
    ok = sum(row["verdict"] == "ok" for row in rows)
    skipped = sum(row["verdict"] == "skipped" for row in rows)
    broken = len(rows) - ok - skipped
    told = f"{ok} of {len(rows)} cases ok"
    routines = {row["routine"] for row in rows if row["routine"]}
    if len(routines) == 1:
        told = f"{routines.pop()}: {told}"
    told += f", {broken} broken" if broken else ""
    return told + (f", {skipped} not applicable" if skipped else "")


def _word(row: Row) -> str:
    # one word: the others are in the failure itself
    word, _, more = row["verdict"].partition(", ")
    return f"{word} ..." if more else word


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3].rstrip() + "..."
