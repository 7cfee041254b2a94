"""When a process stood still, and when one thread kept the interpreter lock: seen by a nap."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pytest_gracekill
from pytest_gracekill.witness.standstill import NAP, StandstillWitness, overlap

#: Seconds for which a process is stopped here, or keeps its interpreter lock.
LONG = 1.0

SCRIPT = """
import ctypes, json, sys, time
from pytest_gracekill.witness.standstill import StandstillWitness

with StandstillWitness() as witness:
    print("ready", flush=True)
    what = sys.argv[1]
    if what == "sleeps in C":
        ctypes.PyDLL(None).usleep(int(float(sys.argv[2]) * 1e6))
    elif what == "computes in C":
        began = time.monotonic()
        digits = 1
        while time.monotonic() - began < float(sys.argv[2]):
            began = time.monotonic()
            digits *= 3
            pow(7, 300_000 * digits)
    else:
        sys.stdin.readline()
print(json.dumps([witness.gaps, witness.kept]), flush=True)
"""


def seen(what: str, stop_for: float = 0.0) -> tuple[list[list[int]], list[list[int]]]:
    """Gaps and kept times of a process that does this."""
    home = str(Path(pytest_gracekill.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, what, str(LONG)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": home},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if stop_for:
            process.send_signal(signal.SIGSTOP)
            time.sleep(stop_for)
            process.send_signal(signal.SIGCONT)
        process.stdin.write("\n")
        process.stdin.flush()
        gaps, kept = json.loads(process.stdout.readline())
    return gaps, kept


def longest(spans: list[list[int]]) -> float:
    return max((end - start for start, end in spans), default=0) / 1e9


def test_a_process_that_was_stopped_stood_still() -> None:
    gaps, kept = seen("waits", stop_for=LONG)
    assert longest(gaps) >= LONG - 2 * NAP
    assert longest(kept) < LONG / 2


@pytest.mark.parametrize("what", ["sleeps in C", "computes in C"])
def test_a_thread_that_keeps_the_interpreter_lock(what: str) -> None:
    gaps, kept = seen(what)
    assert longest(kept) >= LONG - 2 * NAP
    assert longest(gaps) < LONG / 2


def test_a_process_that_goes_on_has_no_gap_of_that_length() -> None:
    gaps, kept = seen("waits")
    assert longest(gaps) < LONG / 2
    assert longest(kept) < LONG / 2


def test_it_ends_with_its_context() -> None:
    witness = StandstillWitness()
    with witness:
        assert witness._thread.is_alive()
    assert not witness._thread.is_alive()


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ((), 0),
        (((0, 10),), 0),
        (((30, 40),), 0),
        (((15, 18),), 3),
        (((0, 100),), 10),
        (((5, 12), (18, 30)), 4),
        (((12, 16), (14, 18)), 6),
        (((14, 18), (12, 19), (13, 15)), 7),
    ],
)
def test_overlap(gaps: tuple[tuple[int, int], ...], expected: int) -> None:
    assert overlap(gaps, 10, 20) == expected
