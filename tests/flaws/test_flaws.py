"""Every wrong routine is caught and named, every right one raises no alarm.

One file a routine: ``flaw_MODE.py`` has the wrong line marked with ``# FLAW mode``, ``CAUGHT``
(verdict -> word, or words of which one must be there) and ``TRIAL`` (arguments of the trial).
"""

from __future__ import annotations

import inspect
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gracekill.fixtures import Judge

HERE = Path(__file__).parent
FLAWS = sorted(HERE.glob("flaw_*.py"))
RIGHT = sorted(HERE.glob("right_*.py"))


def load(
    path: Path,
) -> tuple[Callable[..., object], dict[str, Any], dict[str, str | tuple[str, ...]]]:
    """The routine of a file (its last public function), the trial's arguments, what is expected."""
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    functions = [
        value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and not name.startswith("_") and value.__module__ == path.stem
    ]
    return functions[-1], module.TRIAL, getattr(module, "CAUGHT", {})


@pytest.mark.parametrize("path", FLAWS, ids=lambda path: path.stem)
def test_flaw_is_caught_and_named(gracekill: Judge, path: Path) -> None:
    routine, trial, caught = load(path)
    assert caught
    assert re.search(r"# FLAW [a-z0-9-]+", path.read_text()), "the wrong line is marked"
    report = gracekill(routine, **trial)
    for name, expected in caught.items():
        verdict = report.verdicts[name]
        assert verdict.status == "broken", report
        words = {verdict.word, *verdict.also}
        wanted = {expected} if isinstance(expected, str) else set(expected)
        assert words & wanted, report


@pytest.mark.parametrize("path", RIGHT, ids=lambda path: path.stem)
def test_right_routine_raises_no_alarm(gracekill: Judge, path: Path) -> None:
    routine, trial, _ = load(path)
    gracekill(routine, **trial).check()
