"""`python -m pytest` on one empty file, with the plugin and with `-p no:gracekill`, in turn; other
plugins that are installed are loaded on both sides, pytest-timeout (which ours needs) included.
The share is the difference pair by pair: of the time on the clock, which the promise is about, and
of the processor time, which noise from other processes touches less.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from .figure import Figure, Promise

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_empty.py"]
NOTHING_COLLECTED = 5


def measure(rounds: int, folder: Path) -> list[Figure]:
    """Pairs, whose first is the one with the plugin in every other round."""
    (folder / "test_empty.py").touch()
    clock: dict[bool, list[float]] = {True: [], False: []}
    processor: dict[bool, list[float]] = {True: [], False: []}
    _run(folder, plugin=True)  # .pyc files
    for number in range(rounds):
        for plugin in (True, False) if number % 2 else (False, True):
            elapsed, used = _run(folder, plugin=plugin)
            clock[plugin].append(elapsed)
            processor[plugin].append(used)
    return [
        _figure("pytest without the plugin", clock[False]),
        _figure("pytest with the plugin", clock[True]),
        _figure("its share, on the clock", _differences(clock), Promise(limit=0.02)),
        _figure("its share, processor time", _differences(processor)),
    ]


def _figure(name: str, samples: list[float], promise: Promise | None = None) -> Figure:
    return Figure(name=name, samples=tuple(samples), unit="ms", scale=1e3, promise=promise)


def _differences(times: dict[bool, list[float]]) -> list[float]:
    return [more - less for more, less in zip(times[True], times[False], strict=True)]


def _run(folder: Path, *, plugin: bool) -> tuple[float, float]:
    command = COMMAND if plugin else [*COMMAND, "-p", "no:gracekill"]
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
