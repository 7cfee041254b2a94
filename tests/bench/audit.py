"""What the audit hook costs in each auditing event, `id()` here, of which there are most, and in a
`copy.deepcopy` of 100 dicts, which calls `id()` for each object. Each round takes a Python without
the hook, and one in which it is installed: outside of trials, and in one. "a signal" is `os.kill`
to a child; in a trial the recorder looks up what the recipient is, and notes the line. No promise:
what counts is a real suite, see README.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from .figure import Figure, ratio

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import copy, os, signal, subprocess, sys, time
from contextlib import ExitStack
from pathlib import Path
from pytest_gracekill.witness import signal_audit
from pytest_gracekill.witness.history import History
from pytest_gracekill.witness.recipients import Known
from pytest_gracekill.witness.signals import SignalRecorder

def per_call(work, times):
    started = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - started) / times

thing, nested = object(), [{"a": [1, 2], "b": {"c": "d"}} for _ in range(100)]
with ExitStack() as stack:
    if sys.argv[1] != "none":
        signal_audit.install()
    if sys.argv[1] == "trial":
        whose = lambda pid: Known("vm", "the VM")
        stack.enter_context(SignalRecorder(whose, History(), Path()))
    child = stack.enter_context(subprocess.Popen(["sleep", "1000"]))
    stack.callback(child.kill)
    print(
        per_call(lambda: id(thing), 100_000),
        per_call(lambda: copy.deepcopy(nested), 50),
        per_call(lambda: os.kill(child.pid, signal.SIGCONT), 200),
    )
"""
STATES = {"none": "without the hook", "inert": "outside of trials", "trial": "in a trial"}
WHAT = {"id()": ("us", 1e6), "deepcopy": ("ms", 1e3), "a signal": ("us", 1e6)}


def measure(rounds: int, folder: Path) -> list[Figure]:
    """Each round has the three states in turn, each in a Python of its own."""
    samples: dict[tuple[str, str], list[float]] = {
        (what, state): [] for what in WHAT for state in STATES
    }
    for _ in range(rounds):
        for state in STATES:
            for what, value in zip(WHAT, _run(state), strict=True):
                samples[what, state].append(value)
    figures: list[Figure] = []
    for what, (unit, scale) in WHAT.items():
        by_state = {
            state: Figure(
                name=f"{what} {name}",
                samples=tuple(samples[what, state]),
                unit=unit,
                scale=scale,
            )
            for state, name in STATES.items()
        }
        figures += by_state.values()
        if what != "a signal":
            figures.append(ratio(f"{what}, hook to none", by_state["inert"], by_state["none"]))
    return figures


def _run(state: str) -> list[float]:
    told = subprocess.check_output([sys.executable, "-c", SCRIPT, state], text=True)
    return [float(value) for value in told.split()]
