"""On a real QEMU, four trials at a time: at the gate all is lost or nothing is, in every run.

No clock is in it: QEMU gets as far as the gate, if it gets that far before it is killed, and is let
through when it is not. So it must hold on the busiest machine.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.soak.conftest import RunPytests, Summarise

SCALE = float(os.environ.get("SOAK_SCALE", "1"))
pytestmark = pytest.mark.timeout(0)

TRIALS = """
import os, signal, threading

import pytest

from pytest_gracekill import KillFlags, KillPolicy

ALL = list(range(64))
PROGRAMS = ["qemu", "storage-daemon"]

@pytest.mark.parametrize("trial", range({count}))
@pytest.mark.parametrize("program", PROGRAMS)
def test_all(gracekill, real_qemu, trial, program):
    vm = real_qemu(gate="held", program=program)
    report = gracekill(vm=vm, policy=KillPolicy(grace=0.05), flags=KillFlags.FORCE)
    assert report.disk.lost == report.disk.acknowledged == ALL
    assert report.verdicts["data"].word == "DATA LOST"
    report.check("escalation", "outcome", "identity", "leftovers")
    assert not report.not_judged
    assert vm.exit.signal == signal.SIGKILL

@pytest.mark.parametrize("trial", range({count}))
@pytest.mark.parametrize("program", PROGRAMS)
def test_none(gracekill, real_qemu, trial, program):
    vm = real_qemu(gate="held", program=program)

    def let_through():
        assert vm.gate.seen.wait(60)
        vm.gate.open()

    opener = threading.Thread(target=let_through)
    opener.start()
    report = gracekill(vm=vm, policy=KillPolicy(grace=90), flags=KillFlags.FORCE)
    opener.join()
    report.check("data", "escalation", "outcome", "identity", "leftovers")
    assert not report.not_judged
    assert report.disk.acknowledged == ALL
    assert (vm.exit.code, vm.exit.signal) == (0, None)
"""


def holders(folder: Path) -> list[str]:
    """Whoever has a file below this folder open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [os.readlink(fd) for fd in (process / "fd").iterdir()]  # noqa: PTH115 - no path
        except OSError:
            continue
        if any(link.startswith(f"{folder}/") for link in links):
            found.append(process.name)
    return found


def test_all_or_nothing_at_the_gate(
    run_pytests: RunPytests, summarise: Summarise, tmp_path: Path
) -> None:
    count = max(1, round(50 * SCALE))
    module = tmp_path / "test_trials.py"
    module.write_text(TRIALS.format(count=count), encoding="utf-8")
    started = time.monotonic()
    (outcome,) = run_pytests(["-n", "4", "--gracekill-require-qemu", str(module)])
    assert not outcome.failures, f"{outcome}\n{outcome.output}"
    assert outcome.returncode == pytest.ExitCode.OK, f"{outcome}\n{outcome.output}"
    assert outcome.tests == 4 * count
    assert holders(tmp_path) == []
    summarise(
        f"a real QEMU at the gate, four at a time: {2 * count} of {2 * count} lost all,"
        f" {2 * count} of {2 * count} nothing; {time.monotonic() - started:.0f} s"
    )
