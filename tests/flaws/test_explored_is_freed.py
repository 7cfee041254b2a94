"""What a schedule was made of is freed with it, as far as it came to its end."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from pytest_gracekill import KillFlags
from pytest_gracekill.explore import search
from pytest_gracekill.explore.run import Run

if TYPE_CHECKING:
    import pytest

    from pytest_gracekill.fixtures import Judge


def ended() -> set[int]:
    """The schedules that are still there."""
    there = (thing for thing in gc.get_objects() if isinstance(thing, Run))
    return {id(run) for run in there if run.outcome != "pruned"}


def test_no_schedule_that_has_ended_is_left_to_the_collector(
    gracekill: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_COLLECTED", 1_000_000)
    gc.collect()
    gc.disable()
    try:
        before = ended()
        found = gracekill.explore(flags=KillFlags.FORCE, contenders=("eof", "same", "other"))
        left = ended() - before
    finally:
        gc.enable()
    found.check()
    assert found.schedules > 1000
    # the one that was run last is still on the stage
    assert len(left) <= 2
