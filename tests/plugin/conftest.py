"""The plugin as a user has it: pytest runs in a process of its own, in a folder of its own."""

from __future__ import annotations

from typing import Protocol

import pytest


class RunPytest(Protocol):
    def __call__(self, source: str, *arguments: str) -> pytest.RunResult: ...


@pytest.fixture
def run_pytest(pytester: pytest.Pytester) -> RunPytest:
    """Write one test module and run it; the plugins of our own suite stay out of it."""

    def run(source: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(source)
        others = ("randomly", "cacheprovider", "xprocess", "labgrid")
        without = [f"-pno:{plugin}" for plugin in others]
        return pytester.runpytest_subprocess(*without, *arguments, timeout=60)

    return run
