"""Nothing that an adapter has started outlives pytest, in whichever step that is stopped.

A pytest of its own is killed, or interrupted, while the adapter starts its VM, while it stops it,
or while it cleans up. Who belongs to the trial is known by the files below pytest's folder that it
has open, and watched by pidfd.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from test_lifetime import ENDED_WITHIN, FOLDERS, GONE_WITHIN, START, ended, having_open, until

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)

MODULE = """
import asyncio, multiprocessing, os, subprocess, threading
from pathlib import Path
import pytest
from pytest_gracekill import External
from pytest_gracekill.routine import session

HERE = Path({here!r})
STEP = {step!r}

# so that what waits in a step is not told that it waits too long
session.SHOWS_WITHIN = 600

def pause(step):
    if step == STEP:
        (HERE / "reached").touch()
        threading.Event().wait()

async def apause(step):
    if step == STEP:
        (HERE / "reached").touch()
        await asyncio.Event().wait()

def cleaned():
    (HERE / "cleaned").touch()

def manager(child, start):
    vm = start(child)
    child.wait_ready()
    try:
        pause("start")
        def stop():
            pause("call")
            vm.terminate()
        yield stop
        pause("clean-up")
    finally:
        cleaned()

def popen(child):
    yield from manager(child, lambda child: subprocess.Popen(child.argv, start_new_session=True))

def shell(child):
    command = f"{{child.cmdline}}; true"
    def start(child):
        # the VM's output, as such a shell often has it in a file
        with (child.dir / "log").open("w") as log:
            return subprocess.Popen(command, shell=True, stdout=log)
    yield from manager(child, start)

def worker(child):
    def start(child):
        process = multiprocessing.get_context("spawn").Process(target=child.target)
        process.start()
        return process
    yield from manager(child, start)

async def aio(child):
    vm = await asyncio.create_subprocess_exec(*child.argv)
    child.wait_ready()
    try:
        await apause("start")
        async def stop():
            await apause("call")
            vm.terminate()
            await vm.wait()
        yield stop
        await apause("clean-up")
    finally:
        cleaned()

def in_one_call(child):
    vm = subprocess.Popen(child.argv)
    child.wait_ready()
    pause("call")

REACHED = f"touch {{HERE}}/reached"
COMMAND = External(stop=["sh", "-c", f"{{REACHED}}; sleep 600 & sleep 600", "sh", "{{pid}}"])

# forks, leaves its session, forks again; it ignores what is polite, and tells that it was asked
DAEMON = '''#!/bin/sh
(setsid sh -c 'sh "$0/daemon" >"$0/daemon.log" 2>&1 &' "{{dir}}" &)
'''
RUNS = f'''
trap '[ "$STEP" = clean-up ] && {{REACHED}}' TERM
trap "" HUP INT
[ "$STEP" = start ] && {{REACHED}}
[ "$STEP" = start ] || {{{{argv}}}} &
while :; do sleep 600 & wait; done
'''
STOP = f'''#!/bin/sh
[ "$STEP" = call ] && {{REACHED}} && sleep 600
kill {{{{pid}}}}; while [ -e /proc/{{{{pid}}}} ]; do sleep 0.01; done
'''
os.environ["STEP"] = STEP
daemon = External(start="{{dir}}/start", stop="sh {{dir}}/stop-it {{pid}}",
                  files={{"start": DAEMON, "daemon": RUNS,
                         "stop-it": STOP.replace("{{pid}}", "$1")}})

def test_trial(gracekill):
    gracekill({routine}, flush_time=0.05, budget=600).check()
"""

STEPS = ("start", "call", "clean-up")
#: The routine, the steps that it has, and how many processes there are at least in each.
ROUTINES: dict[str, tuple[str, dict[str, int]]] = {
    "popen": ("popen", {"start": 1, "call": 1, "clean-up": 0}),
    "shell": ("shell", {"start": 2, "call": 2, "clean-up": 0}),
    "worker": ("worker", {"start": 1, "call": 1, "clean-up": 0}),
    "async": ("aio", {"start": 1, "call": 1, "clean-up": 0}),
    "in one call": ("in_one_call", {"call": 1}),
    "command": ("COMMAND", {"call": 4}),
    # the warden, the daemon and what it sleeps by; the VM
    "daemon": ("daemon", {"start": 3, "call": 6, "clean-up": 2}),
}
CASES = [(name, step) for name, (_, steps) in ROUTINES.items() for step in steps]


@pytest.fixture
def runs() -> Iterator[list[subprocess.Popen[bytes]]]:
    runs: list[subprocess.Popen[bytes]] = []
    yield runs
    for run in runs:
        run.kill()
        run.wait(ENDED_WITHIN)


@pytest.fixture
def pidfds() -> Iterator[dict[int, int]]:
    """Pidfds by pid; what they mean is gone when the test is."""
    pidfds: dict[int, int] = {}
    yield pidfds
    for fd in pidfds.values():
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        os.close(fd)


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
@pytest.mark.parametrize(("name", "step"), CASES)
def test_nothing_outlives_pytest(
    pytester: pytest.Pytester,
    runs: list[subprocess.Popen[bytes]],
    pidfds: dict[int, int],
    name: str,
    step: str,
    how: str,
) -> None:
    routine, processes = ROUTINES[name]
    here, basetemp, output = pytester.path, pytester.path / "basetemp", pytester.path / "output"
    module = pytester.makepyfile(MODULE.format(here=str(here), step=step, routine=routine))
    options = ["-p", "no:randomly", "-p", "no:cacheprovider", f"--basetemp={basetemp}"]
    with output.open("wb") as written:
        run = subprocess.Popen(
            [sys.executable, "-c", START, *options, str(module)],
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            cwd=here,
        )
    runs.append(run)
    until((here / "reached").exists, f"the adapter's {step}", run, output)
    watch(basetemp, run, pidfds, processes[step])
    run.send_signal(signal.Signals[how])
    deadline = time.monotonic() + GONE_WITHIN
    left = [pid for pid, fd in pidfds.items() if not ended(fd, deadline)]
    assert not left, f"still there {GONE_WITHIN:g} s after {how}: {left} of {sorted(pidfds)}"
    run.wait(ENDED_WITHIN)
    assert not having_open(basetemp, "/")
    if how == "SIGINT":
        text = output.read_text()
        assert run.returncode == pytest.ExitCode.INTERRUPTED, text
        assert "KeyboardInterrupt" in text
        assert not list(basetemp.glob(FOLDERS)), "the fake's folder is left behind"
        generator = name in ("popen", "shell", "worker", "async")
        assert (here / "cleaned").exists() == generator, "the clean-up always runs"


def watch(basetemp: Path, run: subprocess.Popen[bytes], pidfds: dict[int, int], least: int) -> None:
    """Open a pidfd of each process that has a file of the trial's; there are that many at least."""
    deadline = time.monotonic() + ENDED_WITHIN
    while True:
        pids = having_open(basetemp, "/") - {run.pid}
        for pid in pids - set(pidfds):
            with suppress(ProcessLookupError):
                pidfds[pid] = os.pidfd_open(pid)
        # a pid that changed hands before its pidfd was opened has no such file
        if len(pids) >= least and pids <= having_open(basetemp, "/"):
            return
        assert time.monotonic() < deadline, f"only {pids} of {least} processes"
        time.sleep(0.01)  # between two looks at /proc
