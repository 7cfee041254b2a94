"""No false alarm: a right manager of the user's own, with its locks, its work and two callers.

Two cores are kept busy meanwhile: what contenders suffer from the machine is no finding.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.soak.conftest import RunPytests, Summarise

MANAGERS = Path(__file__).parents[1] / "plugin"
SCALE = float(os.environ.get("SOAK_SCALE", "1"))
pytestmark = pytest.mark.timeout(0)

THREADS = """
import sys
import threading

import pytest

sys.path.insert(0, {managers!r})
from test_own_manager import Manager

@pytest.mark.parametrize("trial", range({count}))
def test_threads(gracekill, trial):
    manager = Manager()
    lock = manager._lock
    report = gracekill(
        manager.stop,
        locks=[(manager, "_lock")],
        contend=[manager.status, manager.names, manager.watch, manager.status],
        callers=2,
        flush_time=0.5,
        force=True,
    )
    report.check()
    assert set(report.not_judged) <= {{"identity"}}
    assert manager.cleaned_up == 1
    assert manager._lock is lock
    assert not [t for t in threading.enumerate() if t.name.startswith("gracekill")]
"""

LOOP = """
import sys
import threading

import pytest

sys.path.insert(0, {managers!r})
from test_async_manager import Manager

@pytest.mark.parametrize("trial", range({count}))
def test_loop(gracekill, trial):
    manager = Manager()
    report = gracekill(
        manager.stop,
        locks=[(manager, "thread_guard")],
        contend=[manager.status, manager.names, manager.metrics, manager.metrics],
        callers=2,
        flush_time=0.5,
        force=True,
    )
    report.check()
    assert set(report.not_judged) <= {{"identity"}}
    assert not [t for t in threading.enumerate() if t.name.startswith("gracekill")]
"""


@pytest.mark.parametrize("source", [THREADS, LOOP], ids=["threads", "loop"])
def test_right_manager_never_raises_an_alarm(
    run_pytests: RunPytests, summarise: Summarise, tmp_path: Path, source: str
) -> None:
    count = max(1, round(100 * SCALE))
    module = tmp_path / "test_trials.py"
    module.write_text(source.format(managers=str(MANAGERS), count=count), encoding="utf-8")
    started = time.monotonic()
    (outcome,) = run_pytests(["-n", "2", str(module)])
    kind = "threads" if source is THREADS else "an event loop"
    summarise(
        f"right manager in {kind}, its locks, 4 contenders, 2 callers:"
        f" no alarm in {count - len(outcome.failures)} of {count};"
        f" {time.monotonic() - started:.0f} s"
    )
    assert not outcome.failures, f"{outcome}\n{outcome.output}"
    assert outcome.returncode == pytest.ExitCode.OK, f"{outcome}\n{outcome.output}"
    assert outcome.tests == count
