"""The figures of the table: cells put together to rows, beside what the survey has."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from pytest_gracekill.routine.adapt import adapt

from . import survey
from .table import SHIPPED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .measuring import Cell
    from .shipped import Shipped

Lost = tuple[int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A routine with its figures: ``lost`` and ``words`` at the survey's flush times, in order.

    ``seen`` is the sequence of the trial with the longest flush; ``survey`` what was measured
    elsewhere, None where that is not known.
    """

    key: str
    call: str
    version: str
    gets: str
    source: str
    steps: str
    seen: str
    lost: Lost
    words: tuple[str, ...]
    survey: Lost | None
    explained: str
    remark: str

    def __str__(self) -> str:
        lost = " / ".join("e" if lost is None else str(lost) for lost in self.lost)
        return f"{self.key:<22}{lost:<36}{self.seen}"

    @property
    def strays(self) -> bool:
        """Whether a figure is farther from the survey's than two measurements may be."""
        if self.survey is None:
            return False
        return any(
            (here is None) != (there is None)
            or (here is not None and there is not None and abs(here - there) > survey.TOLERANCE)
            for here, there in zip(self.lost, self.survey, strict=True)
        )


def rows(cells: Iterable[Cell]) -> list[Row]:
    """A row for each routine that has all its cells, in the table's order."""
    measured: dict[str, dict[float, Cell]] = defaultdict(dict)
    for cell in cells:
        measured[cell.key][cell.flush_time] = cell
    return [
        _row(shipped, [measured[key][flush_time] for flush_time in survey.FLUSH_TIMES])
        for key, shipped in SHIPPED.items()
        if key in measured
    ]


def facts(shipped: Shipped) -> dict[str, str]:
    """What a row has from the source, not from a measurement."""
    return {
        "key": shipped.key,
        "call": shipped.call,
        "gets": adapt(shipped.routine).kind,
        "source": shipped.source,
        "steps": shipped.sequence,
        "explained": survey.EXPLAINED.get(shipped.key, ""),
        "remark": shipped.remark,
    }


def surveyed(key: str) -> Lost | None:
    """The survey's figures of a routine, one for each flush time; None where it has none."""
    if key not in survey.LOST:
        return None
    measured = survey.LOST[key]
    return (None,) * len(survey.FLUSH_TIMES) if measured is None else measured


def _row(shipped: Shipped, cells: Sequence[Cell]) -> Row:
    return Row(
        **facts(shipped),
        version=shipped.version,
        seen=_sequence(cells[-1].sequence),
        lost=tuple(cell.lost for cell in cells),
        words=tuple(re.sub(r" \([^)]*\)", "", cell.words) for cell in cells),
        survey=surveyed(shipped.key),
    )


def _sequence(told: str) -> str:
    """`SIGTERM t+0.002, SIGKILL t+5.004; ...` as `SIGTERM, 5.0 s, SIGKILL`."""
    stamps = re.findall(r"(SIG[A-Z]+|QMP \w+) t\+([\d.]+)", told)
    if not stamps:
        return "no signal"
    words = [stamps[0][0]]
    for (_, before), (name, at) in pairwise(stamps):
        gap = float(at) - float(before)
        words += [f"{gap:.1f} s", name] if gap >= 0.05 else [name]
    return ", ".join(words)


def as_json(table: Sequence[Row]) -> str:
    """The table as it is kept."""
    kept = {
        "flush_times": survey.FLUSH_TIMES,
        "rows": [asdict(row) for row in table],
    }
    text = json.dumps(kept, indent=1)
    # lists of figures on one line each: a difference is then a line of a diff
    flat = re.sub(r"\[\s[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), text)
    return f"{flat}\n"


def shown(table: Sequence[Row]) -> str:
    """The table as the command prints it."""
    times = " / ".join(f"{seconds:g}" for seconds in survey.FLUSH_TIMES)
    head = f"{'routine':<22}{f'lost at {times} s':<36}seen at the longest flush"
    return "\n".join(["", head, *map(str, table)])
