"""Nothing of a trial outlives pytest, and a routine that hangs does not take the run with it.

A pytest of its own is stopped in the middle of a trial: the VM's journal shows that the flush has
begun. Who belongs to the trial is looked up before that, by the mark that each of its processes
holds open, and watched by pidfd, so that no pid can change hands unseen. What a trial leaves in
its own processes (threads, descriptors) is not looked at here.
"""

from __future__ import annotations

import glob
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import RunPytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="marks and pidfds are Linux's")

UNDER_WAY_WITHIN = 60.0
ENDED_WITHIN = 60.0  # pytest shows the traceback of an interrupt, which costs it seconds
GONE_WITHIN = 20.0  # ten times what is promised; the true figure is a property of the test

# the folders of fakes; pytest itself leaves a link that is called gracekillcurrent
FOLDERS = "gracekill[0-9]*"

# which processes there are besides the VM
TOPOLOGIES = {
    "child": set(),
    "reaped": {"reaper"},
    "zombie": {"reaper"},
    "daemon": {"subreaper"},
    "wrapped": {"wrapper"},
    "leaderless": set(),
}
HELPERS = "helpers=2, helper={'session', 'ignores_term'}"
KNOBS = {
    "alone": "",
    "helpers": f"qmp=True, {HELPERS}",
    "stopped": f"on_term=Stop(at=1), {HELPERS}",
}

# left alone, the flush would take three times as long as anything here waits
TRIAL = """
from pytest_gracekill import KillPolicy, Stop, process_kill

def popen_wait(popen):
    popen.terminate()
    popen.wait()

def patient(driver, domain, flags):
    return process_kill(driver, domain, policy=KillPolicy(grace=600))

def test_trial(gracekill):
    gracekill({routine}, topology={topology!r}, flush_time=60, blocks=600, {knobs})
"""

DAEMON = """
import os, signal, subprocess
from pytest_gracekill import Stop

def manager(child):
    options = ["-daemonize", "-qmp", "unix:q,server=on,wait=off"]
    subprocess.run([*child.argv, *options], check=True, cwd=child.dir)
    child.wait_ready()
    def stop():
        pidfd = os.pidfd_open(child.pid)
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        signal.sigtimedwait((), 600)
    yield stop

def test_trial(gracekill):
    gracekill(manager, flush_time=60, blocks=600, {knobs})
"""

# a shell that puts its job in the background has it ignore SIGINT, and children inherit that
START = """
import signal, sys, pytest
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(pytest.console_main())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A pytest in the middle of a trial; ``watched`` has a pidfd for each process of the fake."""

    pytest: subprocess.Popen[bytes]
    basetemp: Path
    output: Path
    watched: dict[int, int]

    def __str__(self) -> str:
        return f"pytest {self.pytest.pid}, trial of {sorted(self.watched)}"

    def alive(self, seconds: float) -> list[int]:
        """The watched processes that have not ended within so many seconds."""
        deadline = time.monotonic() + seconds
        return [pid for pid, fd in self.watched.items() if not ended(fd, deadline)]


class StartTrial(Protocol):
    def __call__(self, topology: str, knobs: str, trial: str = ...) -> Run: ...


def ended(pidfd: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(max(deadline - time.monotonic(), 0.0) * 1000))


def having_open(path: Path, within: str = "") -> set[int]:
    """Every process that has this file open; by its threads, the first of which may be gone.

    ``within="/"``: any file below this folder.
    """
    wanted = f"{path}{within}"
    found = set()
    for link in glob.iglob("/proc/[0-9]*/task/*/fd/*"):  # noqa: PTH207 - skips what vanishes
        with suppress(OSError):
            target = os.readlink(link)  # noqa: PTH115 - what is open may have no path at all
            if target.removesuffix(" (deleted)") == wanted or (
                within and target.startswith(wanted)
            ):
                found.add(int(link.split("/")[2]))
    return found


def stopped(pid: int) -> bool:
    """Whether SIGSTOP has taken effect, in whatever threads the process has."""
    states = [
        stat.read_text(errors="replace").rpartition(")")[2].split()[0]
        for stat in Path(f"/proc/{pid}/task").glob("*/stat")
    ]
    return "T" in states


def journal(basetemp: Path) -> list[dict[str, object]]:
    """The whole lines of the only fake's journal."""
    entries: list[dict[str, object]] = []
    for path in basetemp.glob(f"{FOLDERS}/journal"):
        entries += [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    return entries


def roles(basetemp: Path) -> dict[int, str]:
    return {
        int(str(entry["pid"])): str(entry["role"])
        for entry in journal(basetemp)
        if entry["event"] == "role"
    }


def under_way(basetemp: Path, event: str) -> bool:
    """The fake flushes, or has stopped itself at that."""
    if not any(entry["event"] == event for entry in journal(basetemp)):
        return False
    vms = [pid for pid, role in roles(basetemp).items() if role == "vm"]
    return event != "stop" or any(map(stopped, vms))


def until(
    condition: Callable[[], bool], what: str, run: subprocess.Popen[bytes], output: Path
) -> None:
    deadline = time.monotonic() + UNDER_WAY_WITHIN
    while not condition():
        ended = run.poll() is not None
        assert not ended, f"pytest ended before {what}:\n{output.read_text()}"
        assert time.monotonic() < deadline, f"waited {UNDER_WAY_WITHIN:g} s for {what}"
        time.sleep(0.01)  # between two looks at a file


@pytest.fixture
def start_trial(pytester: pytest.Pytester) -> Iterator[StartTrial]:
    """Start a pytest, and return when its trial is in the middle of the flush."""
    runs: list[subprocess.Popen[bytes]] = []
    pidfds: list[int] = []

    def start(topology: str, knobs: str, trial: str = TRIAL) -> Run:
        routine = "popen_wait" if topology in ("child", "leaderless") else "patient"
        module = pytester.makepyfile(
            trial.format(routine=routine, topology=topology, knobs=KNOBS[knobs])
        )
        basetemp, output = pytester.path / "basetemp", pytester.path / "output"
        options = ["-p", "no:randomly", "-p", "no:cacheprovider", f"--basetemp={basetemp}"]
        with output.open("wb") as written:
            run = subprocess.Popen(
                [sys.executable, "-c", START, *options, str(module)],
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                cwd=pytester.path,
            )
        runs.append(run)
        event = "stop" if knobs == "stopped" else "block"
        what = f"the fake's journal line {event!r}"
        until(lambda: under_way(basetemp, event), what, run, output)
        (mark,) = basetemp.glob(f"{FOLDERS}/mark")
        pids = having_open(mark) - {run.pid}
        watched = {}
        for pid in pids:
            watched[pid] = os.pidfd_open(pid)
            pidfds.append(watched[pid])
        # a pid that changed hands before its pidfd was opened has no mark
        assert having_open(mark) - {run.pid} == pids
        return Run(pytest=run, basetemp=basetemp, output=output, watched=watched)

    yield start
    for run in runs:
        run.kill()
        run.wait(ENDED_WITHIN)
    for fd in pidfds:
        # a test that fails leaves nothing to run for ever
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        os.close(fd)


def check_all_are_watched(run: Run, topology: str, knobs: str) -> None:
    """Without this, a process that lost its mark would go unseen."""
    known = roles(run.basetemp)
    expected = {"vm", *TOPOLOGIES[topology], *(() if knobs == "alone" else ("helper",))}
    assert set(known.values()) == expected
    assert set(known) == set(run.watched)
    assert len(known) == len(expected) + (knobs != "alone")
    assert run.alive(0) == sorted(run.watched, key=list(run.watched).index)


@pytest.mark.parametrize("knobs", KNOBS)
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_nothing_outlives_pytest(
    start_trial: StartTrial,
    record_property: Callable[[str, object], None],
    how: str,
    topology: str,
    knobs: str,
) -> None:
    run = start_trial(topology, knobs)
    check_all_are_watched(run, topology, knobs)
    sent = time.monotonic()
    run.pytest.send_signal(signal.Signals[how])
    assert not run.alive(GONE_WITHIN), f"still there {GONE_WITHIN:g} s after {how}: {run}"
    record_property("nothing_ran_after", round(time.monotonic() - sent, 3))
    run.pytest.wait(ENDED_WITHIN)
    if how == "SIGINT":
        text = run.output.read_text()
        assert run.pytest.returncode == pytest.ExitCode.INTERRUPTED, text
        assert "KeyboardInterrupt" in text
        assert not list(run.basetemp.glob(FOLDERS)), "the fake's folder is left behind"


@pytest.mark.parametrize("knobs", KNOBS)
def test_no_vm_that_was_daemonised_outlives_pytest(start_trial: StartTrial, knobs: str) -> None:
    """With `-daemonize` it is nobody's child, in a session of its own."""
    run = start_trial("child", knobs, DAEMON)
    check_all_are_watched(run, "child", knobs)
    run.pytest.kill()
    assert not run.alive(GONE_WITHIN), f"still there {GONE_WITHIN:g} s after SIGKILL: {run}"
    run.pytest.wait(ENDED_WITHIN)


HANGS = """
import threading

def hang(pid):
    threading.Event().wait()  # for ever

def test_hangs(gracekill):
    gracekill(hang, {arguments}).check()

def test_next(gracekill):
    gracekill(flush_time=0.05).check()
"""


@pytest.mark.parametrize(
    ("arguments", "options"),
    [("budget=1", ()), ("", ("--timeout=8",))],
    ids=["own-budget", "pytest-timeout"],
)
def test_a_hanging_routine_is_cut_off_and_the_run_goes_on(
    run_pytest: RunPytest, pytester: pytest.Pytester, arguments: str, options: tuple[str, ...]
) -> None:
    basetemp = pytester.path / "basetemp"
    source = HANGS.format(arguments=arguments)
    result = run_pytest(source, f"--basetemp={basetemp}", "--junit-xml=junit.xml", *options)
    result.assert_outcomes(failed=1, passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    text = result.stdout.str()
    line = source.splitlines().index("    threading.Event().wait()  # for ever")
    assert re.search(r"^E +AssertionError: gracekill: HUNG$", text, re.MULTILINE), text
    # line numbers count from 1, but pytester strips the empty first line
    space = r"(\s+E)?\s+"  # long paths are wrapped
    assert re.search(rf"^E +\S*\.py:{line}{space}in{space}hang$", text, re.MULTILINE), text
    assert "Timeout (>" not in text
    cases = ET.parse(pytester.path / "junit.xml").getroot().iter("testcase")
    failed = {str(case.get("name")): case.find("failure") is not None for case in cases}
    assert failed == {"test_hangs": True, "test_next": False}
    assert not having_open(basetemp, "/")
    assert not list(basetemp.glob(FOLDERS))
