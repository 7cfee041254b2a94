"""One routine at one flush time: a trial without pytest, and the figures that are kept of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gracekill import lab, settings, trial
from pytest_gracekill.settings import Value

from .shipped import BLOCKS

if TYPE_CHECKING:
    from pytest_gracekill.judgement import Judgement

    from .shipped import Shipped

SOURCE = "python tests/field"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one trial said. ``lost`` is None when the VM was left running."""

    key: str
    flush_time: float
    lost: int | None
    words: str
    sequence: str

    def __str__(self) -> str:
        lost = "left running" if self.lost is None else f"{self.lost} of {BLOCKS} lost"
        return f"{self.key} at {self.flush_time:g} s: {lost}; {self.words}; {self.sequence}"


def arguments(shipped: Shipped, flush_time: float) -> dict[str, Any]:
    """The arguments of a trial of this routine."""
    return {
        "flush_time": flush_time,
        "blocks": BLOCKS,
        "force": shipped.force,
        **shipped.knobs,
    }


def measure(shipped: Shipped, flush_time: float, folder: Path) -> Cell:
    """Run one trial in this process, in its main thread."""
    values = settings.from_outside({}, {}, {}) | {
        name: Value(value=value, source=SOURCE)
        for name, value in arguments(shipped, flush_time).items()
    }
    plan = trial.plan(
        shipped.routine, values, source=SOURCE, directory=lambda: folder / "vm", deadline=None
    )
    return cell(shipped, flush_time, lab.run(plan))


def cell(shipped: Shipped, flush_time: float, report: Judgement) -> Cell:
    """The figures of a report."""
    left_running = "data" in report.not_judged
    return Cell(
        key=shipped.key,
        flush_time=flush_time,
        lost=None if left_running else len(report.disk.lost),
        words=report.headline().removeprefix("gracekill: "),
        sequence=report.verdicts["escalation"].evidence,
    )
