"""The counts that are too long for CI: `pytest tests/soak` takes more than an hour.

Nothing is left: each pytest looks at its own descriptors and threads, and what it could have left
outside (processes, files) is looked for from here, after it has ended.
"""

from __future__ import annotations

import glob
import os
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.soak.conftest import Outcome, RunPytests, Summarise

HERE = Path(__file__).parent
TESTS = HERE.parent
FLAWS = sorted((TESTS / "flaws").glob("flaw_*.py"))
RIGHT = sorted((TESTS / "flaws").glob("right_*.py"))
SCALE = float(os.environ.get("SOAK_SCALE", "1"))
# runs of minutes and more: no test of the soak is cut off by the suite's own time limit
pytestmark = pytest.mark.timeout(0)


def scaled(count: int) -> int:
    """A count of the soak, or the part of it that SOAK_SCALE asks for; at least one."""
    return max(1, round(count * SCALE))


TRIALS = """
import os
import threading

import pytest

from pytest_gracekill import KillFlags

def descriptors():
    return {{fd: os.readlink(f"/proc/self/fd/{{fd}}") for fd in os.listdir("/proc/self/fd")
             if os.path.islink(f"/proc/self/fd/{{fd}}")}}

def threads():
    return sorted(thread.name for thread in threading.enumerate())

BEFORE = {{}}

def test_before():
    BEFORE.update(fds=descriptors(), threads=threads())

@pytest.mark.parametrize("trial", range({trials}))
def test_trial(gracekill, trial):
    report = gracekill(flush_time=0.3, flags=KillFlags.FORCE)
    report.check()
    assert not report.not_judged

def test_nothing_is_left(tmp_path_factory):
    assert descriptors() == BEFORE["fds"]
    assert threads() == BEFORE["threads"]
    there = tmp_path_factory.getbasetemp().rglob("*")
    assert [path for path in there if not path.is_symlink()] == []  # pytest's own links
"""


def holders(folder: Path) -> list[int]:
    """Every process that has anything open below the folder, so also the mark of a fake."""
    found = set()
    for link in glob.iglob("/proc/[0-9]*/task/*/fd/*"):  # noqa: PTH207 - skips what vanishes
        with suppress(OSError):
            if os.readlink(link).startswith(f"{folder}/"):  # noqa: PTH115 - may be no path
                found.add(int(link.split("/")[2]))
    return sorted(found)


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir() and not path.is_symlink()]


def all_passed(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        assert not outcome.failures, f"{outcome}\n{outcome.output}"
        assert outcome.returncode == pytest.ExitCode.OK, f"{outcome}\n{outcome.output}"


def test_right_routine_two_at_a_time(
    run_pytests: RunPytests, summarise: Summarise, tmp_path: Path
) -> None:
    trials = scaled(100)
    module = tmp_path / "test_trials.py"
    module.write_text(TRIALS.format(trials=trials), encoding="utf-8")
    started = time.monotonic()
    # in their order: the last test looks at what the others have left
    one = ["-p", "no:randomly", str(module)]
    outcomes = run_pytests(one, one)
    all_passed(outcomes)
    assert sum(outcome.tests for outcome in outcomes) == 2 * (trials + 2)
    assert holders(tmp_path) == []
    left = [path for run in ("run-0", "run-1") for path in files_below(tmp_path / run / "tmp")]
    assert left == []
    summarise(
        f"right routine, two at a time: {2 * trials} of {2 * trials} ok, nothing left;"
        f" {time.monotonic() - started:.0f} s"
    )


AGAIN = """
import sys
from pathlib import Path

import pytest

sys.path.insert(0, {flaws!r})
import test_flaws

@pytest.mark.parametrize("attempt", range({count}))
def test_again(gracekill, fake_qemu, attempt):
    test_flaws.{test}(gracekill, fake_qemu, Path({path!r}))
"""


def again(tmp_path: Path, path: Path, test: str, count: int) -> Path:
    """Write a module that repeats the test of one routine."""
    module = tmp_path / "test_again.py"
    flaws = str(path.parent)
    text = AGAIN.format(flaws=flaws, count=count, test=test, path=str(path))
    module.write_text(text, encoding="utf-8")
    return module


@pytest.mark.parametrize("path", FLAWS)
def test_flaw_is_caught_every_time(
    run_pytests: RunPytests, summarise: Summarise, tmp_path: Path, path: Path
) -> None:
    count = scaled(20)
    module = again(tmp_path, path, "test_flaw_is_caught_and_named", count)
    (outcome,) = run_pytests(["-n", "2", str(module)])
    summarise(f"{path.stem}: caught and named in {count - len(outcome.failures)} of {count}")
    all_passed([outcome])
    assert outcome.tests == count
    assert holders(tmp_path) == []


@pytest.mark.parametrize("path", RIGHT)
def test_right_routine_never_raises_an_alarm(
    run_pytests: RunPytests, summarise: Summarise, tmp_path: Path, path: Path
) -> None:
    count = scaled(70)
    module = again(tmp_path, path, "test_right_routine_raises_no_alarm", count)
    (outcome,) = run_pytests(["-n", "2", str(module)])
    summarise(f"{path.stem}: no alarm in {count - len(outcome.failures)} of {count}")
    all_passed([outcome])
    assert outcome.tests == count
    assert holders(tmp_path) == []


RETAKE = """
import sys
from pathlib import Path

sys.path.insert(0, {flaws!r})
import test_flaws

def test_retake(gracekill, fake_qemu):
    test_flaws.load(Path({path!r})).run(gracekill, fake_qemu).check()

def test_next():
    pass
"""


def test_lock_order_retake_never_hangs(
    run_pytests: RunPytests, summarise: Summarise, tmp_path: Path
) -> None:
    """Each time in a pytest of its own, which has to end as if nothing had happened."""
    count = scaled(20)
    path = TESTS / "flaws" / "flaw_lock_order_retake.py"
    module = tmp_path / "test_retake.py"
    module.write_text(RETAKE.format(flaws=str(path.parent), path=str(path)), encoding="utf-8")
    one = ["-p", "no:randomly", str(module)]
    words: list[str] = []
    while len(words) < count:
        for outcome in run_pytests(*[one] * min(2, count - len(words))):
            assert outcome.returncode == pytest.ExitCode.TESTS_FAILED, outcome.output
            assert outcome.tests == 2
            (failure,) = outcome.failures
            found = re.match(r"test_retake: failure: .*?(DEADLOCK|LOCK ORDER)", failure)
            assert found is not None, failure
            words.append(found[1])
    assert holders(tmp_path) == []
    deadlocks = words.count("DEADLOCK")
    summarise(
        f"lock order retake, a pytest each: {count} of {count} caught and ended"
        f" ({deadlocks} DEADLOCK, {count - deadlocks} LOCK ORDER)"
    )


@pytest.mark.parametrize("directory", ["unit", "plugin", "field"])
def test_the_suite_again_and_again(
    run_pytests: RunPytests, summarise: Summarise, tmp_path: Path, directory: str
) -> None:
    count = scaled(20)
    started = time.monotonic()
    tests = 0
    for number in range(count):
        (outcome,) = run_pytests(["-n", "2", str(TESTS / directory)])
        tests = outcome.tests
        assert outcome.returncode == pytest.ExitCode.OK, (
            f"run {number + 1} of {count}: {outcome}\n{outcome.output}"
        )
        assert holders(tmp_path) == []
    summarise(
        f"tests/{directory}: {tests} tests passed {count} times of {count};"
        f" {time.monotonic() - started:.0f} s"
    )


SOAK = """
import sys
sys.path.insert(0, {here!r})
from conftest import start_burners
burners = start_burners()
print(*(burner.pid for burner in burners), flush=True)
sys.stdin.read()
"""


def test_burners_die_with_the_soak(tmp_path: Path) -> None:
    soak = subprocess.Popen(
        [sys.executable, "-c", SOAK.format(here=str(HERE))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert soak.stdout is not None
        pidfds = [os.pidfd_open(int(pid)) for pid in soak.stdout.readline().split()]
        assert len(pidfds) == 2
        soak.send_signal(signal.SIGKILL)
        still = []
        for pidfd in pidfds:
            if not select.select([pidfd], [], [], 20)[0]:
                still.append(pidfd)
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        assert not still, f"{len(still)} burners still ran 20 s after their soak was killed"
    finally:
        soak.kill()
        soak.communicate()
