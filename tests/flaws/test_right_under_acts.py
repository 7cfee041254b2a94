"""Right routines that drop their locks raise no alarm, whatever is done in the window."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_gracekill.choreography import Point
    from pytest_gracekill.fixtures import Judge

ROUTINES = sorted(Path(__file__).parent.glob("right_driver_*.py"))

CHOREOGRAPHIES: list[dict[Point, str]] = [
    {"first signal": "eof"},
    {"first unlock": "restart"},
    {"unlocked": "eof"},
    {"unlocked": "restart"},
    {"unlocked": "undefine"},
    {"unlocked": "destroy"},
    {"exit": "destroy"},
    {"exit": "restart"},
    {"before the relock": "eof"},
    {"before the relock": "restart"},
    {"before the relock": "undefine"},
    {"unlocked": "restart", "before the relock": "eof"},
    {"unlocked": "eof", "before the relock": "restart"},
]
#: Points that a routine does not come to: another thread of its sends the signals, or it holds
#: one of the locks throughout.
NOT_MET = {
    "right_driver_executor": {"first signal"},
    "right_driver_only_dropped": {"unlocked"},
}


def _cases() -> list[tuple[Path, dict[Point, str]]]:
    return [
        (path, at)
        for path in ROUTINES
        for at in CHOREOGRAPHIES
        if not NOT_MET.get(path.stem, set()) & set(at)
    ]


@pytest.mark.parametrize(
    ("path", "at"),
    _cases(),
    ids=lambda value: (
        value.stem if isinstance(value, Path) else "-".join((*value, *value.values()))
    ),
)
def test_right_routine_under_acts(gracekill: Judge, path: Path, at: dict[Point, str]) -> None:
    right = runpy.run_path(str(path))
    trial: dict[str, Any] = {**right["TRIAL"], "flush_time": 0.1}
    if {"undefine", "restart"} & set(at.values()):
        # a second caller would come with a domain that is gone, or for the new VM
        trial["callers"] = 1
    gracekill(right["destroy"], **trial, at=at).check()
