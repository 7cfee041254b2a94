"""The plugin as a user has it: pytest runs in a process of its own, in a folder of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Protocol

import pytest

# the table of outcomes is that of docs/trial.md
ROOT = str(Path(__file__).parents[2])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)


class RunPytest(Protocol):
    def __call__(self, source: str, *arguments: str) -> pytest.RunResult: ...


@pytest.fixture(autouse=True)
def _without_our_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set for the run of this suite, as in CI, is not set for the pytests in it."""
    for name in [name for name in os.environ if name.startswith("GRACEKILL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def run_pytest(pytester: pytest.Pytester) -> RunPytest:
    """Write one test module and run it; the plugins of our own suite stay out of it."""

    def run(source: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(source)
        others = ("randomly", "cacheprovider", "xprocess", "labgrid")
        without = [f"-pno:{plugin}" for plugin in others]
        return pytester.runpytest_subprocess(*without, *arguments, timeout=60)

    return run
