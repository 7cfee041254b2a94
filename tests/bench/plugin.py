"""`python -m pytest` on one empty file, with the plugin and with `-p no:gracekill`, in turn; of the
other plugins only pytest-timeout, which ours needs, is loaded, on both sides. The share is the
difference pair by pair: of the time on the clock, which the promise is about, and of processor
time. "the import alone": the plugin's, in a Python that has pytest and pytest-timeout already.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from .figure import Figure, Promise

if TYPE_CHECKING:
    from pathlib import Path

OTHERS = [
    f"-pno:{point.name}"
    for point in entry_points(group="pytest11")
    if point.name not in ("gracekill", "timeout")
]
COMMAND = [sys.executable, "-m", "pytest", "-q", "-pno:cacheprovider", *OTHERS, "test_empty.py"]
IMPORT = """
import time, pytest, pytest_timeout
started = time.perf_counter()
import pytest_gracekill.plugin
print(time.perf_counter() - started)
"""
NOTHING_COLLECTED = 5


def measure(rounds: int, folder: Path) -> list[Figure]:
    """Pairs, whose first is the one with the plugin in every other round."""
    (folder / "test_empty.py").touch()
    clock: dict[bool, list[float]] = {True: [], False: []}
    processor: dict[bool, list[float]] = {True: [], False: []}
    imports = []
    _run(folder, plugin=True)  # .pyc files
    _import()
    for number in range(rounds):
        for plugin in (True, False) if number % 2 else (False, True):
            elapsed, used = _run(folder, plugin=plugin)
            clock[plugin].append(elapsed)
            processor[plugin].append(used)
        imports.append(_import())
    return [
        _figure("pytest without the plugin", clock[False]),
        _figure("pytest with the plugin", clock[True]),
        _figure("share of time on the clock", _differences(clock), Promise(limit=0.02)),
        _figure("share of processor time", _differences(processor)),
        _figure("the import alone", imports),
    ]


def _figure(name: str, samples: list[float], promise: Promise | None = None) -> Figure:
    return Figure(name=name, samples=tuple(samples), unit="ms", scale=1e3, promise=promise)


def _differences(times: dict[bool, list[float]]) -> list[float]:
    return [more - less for more, less in zip(times[True], times[False], strict=True)]


def _run(folder: Path, *, plugin: bool) -> tuple[float, float]:
    command = COMMAND if plugin else [*COMMAND, "-pno:gracekill"]
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    # the status and what it cost in one call; Popen is told, so that it does not wait again
    _, status, usage = os.wait4(process.pid, 0)
    elapsed = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != NOTHING_COLLECTED:
        raise RuntimeError(f"pytest ended with {process.returncode}, not with 'no tests'")
    return elapsed, usage.ru_utime + usage.ru_stime


def _import() -> float:
    return float(subprocess.check_output([sys.executable, "-c", IMPORT], text=True))
