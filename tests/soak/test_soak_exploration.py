"""Random programs, many more of them than CI has time for, against the model of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.soak.conftest import RunPytests, Summarise

REFERENCE = Path(__file__).parents[1] / "unit" / "test_explore_reference.py"
SCALE = float(os.environ.get("SOAK_SCALE", "1"))
pytestmark = pytest.mark.timeout(0)

PROGRAMS = 20_000
#: Each pytest has so many, of a seed of its own; two run at a time.
EACH = 1_000


def test_random_programs(
    run_pytests: RunPytests, summarise: Summarise, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = max(2, round(PROGRAMS * SCALE))
    each = min(EACH, -(-programs // 2))
    monkeypatch.setenv("EXPLORED_PROGRAMS", str(each))
    compared = 0
    while compared < programs:
        first = compared // each + 1
        outcomes = run_pytests(
            *([str(REFERENCE), f"--hypothesis-seed={seed}"] for seed in (first, first + 1))
        )
        for outcome in outcomes:
            assert outcome.failures == (), outcome.output
            assert outcome.returncode == 0, outcome.output
            compared += each
    summarise(f"{compared} random programs come to the ends of their models")
