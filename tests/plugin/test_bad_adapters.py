# ruff: noqa: E501 - errors and adapters in one piece are easier to compare
"""An adapter that is used wrongly is one clear error: which, from where, and how to do it right.

Each is followed by a right one: nothing of the first is left that could be in its way, neither
processes nor threads nor descriptors, and nothing of both runs when the run is over.
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest
from test_lifetime import FOLDERS, having_open

if TYPE_CHECKING:
    from conftest import RunPytest

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)

CONFTEST = """
import gc, os, threading
import psutil, pytest
from pytest_gracekill import lab
from pytest_gracekill.routine import session

# as if a second had been too long, where that is what is told
@pytest.fixture(autouse=True)
def impatient(request, monkeypatch):
    if request.function.__name__ == "test_bad":
        for name in request.module.IMPATIENT:
            for module in (lab, session):
                monkeypatch.setattr(module, name, 2.5, raising=False)

@pytest.fixture(autouse=True)
def nothing_is_left():
    before = set(os.listdir("/proc/self/fd"))
    yield
    # what was started just before all was over takes a moment to see that
    _, running = psutil.wait_procs(psutil.Process().children(recursive=True), timeout=20)
    assert not running
    assert not [each.name for each in threading.enumerate() if each.name.startswith("gracekill:")]
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) <= before
"""

MODULE = """
import asyncio, contextlib, os, signal, subprocess, sys, threading, time
from pytest_gracekill import External

def start(child):
    return subprocess.Popen(child.argv)

def stop(vm):
    vm.terminate()
    return vm.wait(20)

{adapter}

IMPATIENT = {impatient}

def test_bad(gracekill):
    gracekill(bad, flush_time=0.05).check()

def right(child):
    vm = start(child)
    yield lambda: stop(vm)

def test_next(gracekill):
    gracekill(right, flush_time=0.05).check()
"""

TAIL = ": it starts the fake, yields what stops it, and cleans up (from the call)"
NEVER = (
    "the adapter bad never started the fake: run child.argv (a command as a list), child.cmdline"
    " (for a shell), child.program (an executable) or child.target (a callable, for"
    " multiprocessing) (from the call)"
)

#: What is made short for a case whose error says that it was too long.
LIMITS = {
    "START_WITHIN": "the start of the adapter",
    "END_WITHIN": "did not end within",
    "SHOWS_WITHIN": "never started the fake",
}

#: How many runs the cases are spread over.
GROUPS = 10

#: The adapter, and its error as the last line of the failure tells it; {N} is any number.
BAD: dict[str, tuple[str, str]] = {
    "wrong parameter name": (
        "def bad(machine): yield",
        "UsageError: routine bad starts with parameter 'machine'; on offer are driver:",
    ),
    "generator with pid": (
        "def bad(pid): yield",
        (
            "UsageError: routine bad is a generator with 'pid': a generator starts the fake itself,"
            " and its first parameter is 'child' (from the call)"
        ),
    ),
    "never starts the fake": ("def bad(child): yield lambda: None", f"UsageError: {NEVER}"),
    "never starts the fake, in one call": ("def bad(child): return True", f"UsageError: {NEVER}"),
    "starts another command": (
        "def bad(child):\n    vm = subprocess.Popen(['sleep', '0'])\n    yield vm.wait",
        f"UsageError: {NEVER}",
    ),
    "starts two": (
        "def bad(child):\n    one = start(child)\n    child.wait_ready()\n    two = start(child)\n    two.wait(20)\n    yield one.kill",
        (
            "UsageError: the adapter bad started the fake 2 times (pids {N}, {N}); an adapter starts"
            " it once (from the call)"
        ),
    ),
    "never yields": (
        "def bad(child):\n    stop(start(child))\n    if child is None: yield",
        f"UsageError: the adapter bad never yields{TAIL}",
    ),
    "never yields and leaves it running": (
        "def bad(child):\n    vms.append(start(child))\n    if child is None: yield\nvms = []",
        f"UsageError: the adapter bad never yields{TAIL}",
    ),
    "yields twice": (
        "def bad(child):\n    vm = start(child)\n    yield lambda: stop(vm)\n    yield",
        (
            "UsageError: the adapter bad yields twice: after its yield it cleans up, and ends"
            " (from the call)"
        ),
    ),
    "yields nothing": (
        "def bad(child):\n    vms.append(start(child))\n    yield\nvms = []",
        (
            "UsageError: the adapter bad yields None: a callable that stops the VM is needed, or a"
            " pair of it and one that says whether the VM runs (from the call)"
        ),
    ),
    "yields no callable": (
        "def bad(child):\n    vm = start(child)\n    child.wait_ready()\n    yield stop(vm)",
        "UsageError: the adapter bad yields 0: a callable that stops the VM is needed, or a pair",
    ),
    "yields three": (
        "def bad(child):\n    vm = start(child)\n    yield stop, stop, stop",
        "UsageError: the adapter bad yields (<function stop at {X}>, <function",
    ),
    "yields no callable as status": (
        "def bad(child):\n    vm = start(child)\n    yield (lambda: stop(vm)), True",
        "UsageError: the adapter bad yields (<function bad.<locals>.<lambda> at {X}>, True): a",
    ),
    "returns its stop": (
        "def bad(child):\n    vm = start(child)\n    return lambda: stop(vm)",
        (
            "UsageError: the adapter bad returned <function bad.<locals>.<lambda> at {X}>: what"
            " stops the VM is to be yielded; it starts the fake, yields what stops it, and cleans up"
            " (from the call)"
        ),
    ),
    "returns a generator": (
        "def steps(child, port):\n    yield\ndef bad(child): return steps(child, 80)",
        (
            "UsageError: the adapter bad returned a generator: hand in the generator function"
            " itself; it starts the fake, yields what stops it, and cleans up (from the call)"
        ),
    ),
    "context manager": (
        "@contextlib.contextmanager\ndef bad(child):\n    yield",
        (
            "UsageError: routine bad is a generator function behind a decorator, such as"
            " contextmanager: hand in the function without it (from the call)"
        ),
    ),
    "raises before its yield": (
        "def bad(child):\n    vm = start(child)\n    raise LookupError('no port')\n    yield",
        (
            "StartError: the adapter bad raised before its yield, where it starts the fake:"
            " LookupError: no port (from the call)"
        ),
    ),
    "async, raises before its yield": (
        "async def bad(child):\n    vm = start(child)\n    raise LookupError('no port')\n    yield",
        (
            "StartError: the adapter bad raised before its yield, where it starts the fake:"
            " LookupError: no port (from the call)"
        ),
    ),
    "raises in its clean-up": (
        "def bad(child):\n    vm = start(child)\n    yield lambda: stop(vm)\n    raise LookupError(8)",
        "LookupError: 8",
    ),
    "start never returns": (
        "def bad(child):\n    vm = start(child)\n    threading.Event().wait()\n    yield stop",
        (
            "StartError: the start of the adapter bad did not end within 2.5 s; it stood in"
            " {F}:{N} in bad (from the call)"
        ),
    ),
    "start waits for the VM's end": (
        "def bad(child):\n    vm = start(child)\n    vm.wait()\n    vm.nonsense\n    yield stop",
        (
            "StartError: the start of the adapter bad did not end within 2.5 s; it stood in"
            " {F}:{N} in bad (from the call)"
        ),
    ),
    "async start never returns": (
        "async def bad(child):\n    vm = start(child)\n    await asyncio.Event().wait()\n    yield stop",
        "StartError: the start of the adapter bad did not end within 2.5 s; it stood in {F}:{N} in",
    ),
    "clean-up never returns": (
        (
            "def bad(child):\n    vm = start(child)\n    yield lambda: stop(vm)\n"
            "    threading.Event().wait()"
        ),
        (
            "StartError: the clean-up of the adapter bad did not end within 2.5 s; it stood in"
            " {F}:{N} in bad (from the call)"
        ),
    ),
    "returns a coroutine that nobody awaits": (
        (
            "async def really():\n    pass\nasync def forgets():\n    return really()\n"
            "def bad(child):\n    vm = start(child)\n    yield forgets"
        ),
        (
            "UsageError: the routine bad returned a coroutine that nobody awaited: it has to await"
            " what it calls (from the call)"
        ),
    ),
    "a pid routine returns a coroutine of a coroutine": (
        "async def really(): pass\nasync def forgets(): return really()\ndef bad(pid): return forgets()",
        (
            "UsageError: the routine bad returned a coroutine that nobody awaited: it has to await"
            " what it calls (from the call)"
        ),
    ),
    "status says nothing": (
        "def bad(child):\n    vm = start(child)\n    yield (lambda: stop(vm)), (lambda: None)",
        (
            "UsageError: the status that bad yields returned None: True (the VM runs) or False is"
            " needed (from the call)"
        ),
    ),
    "status says a number": (
        "def bad(child):\n    vm = start(child)\n    yield (lambda: stop(vm)), vm.poll",
        "UsageError: the status that bad yields returned 0: True (the VM runs) or False is needed",
    ),
    "status raises": (
        "def bad(child):\n    vm = start(child)\n    yield (lambda: stop(vm)), (lambda: 1 / 0)",
        (
            "StartError: the status that bad yields raised ZeroDivisionError: division by zero; True"
            " (the VM runs) or False is needed (from the call)"
        ),
    ),
    "status never returns": (
        (
            "def bad(child):\n    vm = start(child)\n"
            "    yield (lambda: stop(vm)), (lambda: threading.Event().wait())"
        ),
        "StartError: the status of the adapter bad did not end within 2.5 s; it stood in {F}:{N} in",
    ),
    "pid before it is there": (
        "def bad(child):\n    os.kill(child.pid, 15)\n    yield stop",
        (
            "StartError: the adapter bad raised before its yield, where it starts the fake:"
            " StartError: the fake in {F} has not told its pid yet: it was not started, or only"
            " just now; child.wait_ready() waits for it (from the call)"
        ),
    ),
    "no command": (
        "bad = External(stop='no-such-command {pid}')",
        (
            "UsageError: stop='no-such-command {pid}': there is no command 'no-such-command'; its"
            " path, or a name on PATH, is needed (from the call)"
        ),
    ),
    "no executable": (
        "bad = External(start=[__file__, '{program}'], stop='true')",
        "UsageError: start=\"{F} '{program}'\": '{F}' is no file that may be executed; chmod",
    ),
    "a script that cannot be run": (
        "bad = External(start='{program}', stop='{dir}/stop', files={'stop': 'exit 0'})",
        (
            "UsageError: stop='{dir}/stop': '{F}/stop' cannot be run: Permission denied (from the"
            " call)"
        ),
    ),
    "start fails": (
        "bad = External(start=['sh', '-c', 'echo no license >&2; exit 1', '{program}'], stop='true')",
        (
            "StartError: start=\"sh -c 'echo no license >&2; exit 1' '{program}'\" ended with status"
            " 1: no license (from the call)"
        ),
    ),
    "start starts something else": (
        "bad = External(start=['echo', 'would run', '{program}'], stop='true')",
        (
            "UsageError: the adapter External('true') never started the fake: start has to run"
            " {program}, or {argv}; start=\"echo 'would run' '{program}'\" ended with status 0: would"
            " run {F} (from the call)"
        ),
    ),
    "start stays, and starts nothing": (
        "bad = External(start=['sh', '-c', 'echo ready; sleep 600', '{program}'], stop='true')",
        (
            "UsageError: the adapter External('true') never started the fake: start has to run"
            " {program}, or {argv}; start=\"sh -c 'echo ready; sleep 600' '{program}'\" runs: ready"
            " (from the call)"
        ),
    ),
    "file with an unknown field": (
        "bad = External(stop='sh {dir}/stop', files={'stop': 'kill {vm_pid}'})",
        (
            "UsageError: files['stop']='kill {vm_pid}': there is no {vm_pid}; filled in are {dir},"
            " {pid_file}, {qmp}, {pid} ({{vm_pid}} stays {vm_pid}) (from the call)"
        ),
    ),
    "qmp without the knob": (
        "bad = External(stop='true {qmp}')",
        "UsageError: External('true {qmp}'): {qmp} is filled in only with the knob qmp=True",
    ),
}


def pattern(error: str) -> str:
    text = re.escape(error)
    for name, found in (("N", r"\d+"), ("X", "0x[0-9a-f]+"), ("F", r"/?\S+")):
        text = text.replace(re.escape(f"{{{name}}}"), found)
    return rf"^E +(?:pytest_gracekill\.errors\.)?{text}"


@pytest.mark.parametrize("group", range(GROUPS))
def test_one_clear_error_and_nothing_left(
    run_pytest: RunPytest, pytester: pytest.Pytester, group: int
) -> None:
    cases = list(BAD)[group::GROUPS]
    basetemp = pytester.path / "basetemp"
    pytester.makeconftest(CONFTEST)
    for number, case in enumerate(cases):
        adapter, error = BAD[case]
        limits = [name for name, told in LIMITS.items() if told in error]
        module = MODULE.replace("{adapter}", adapter).replace("{impatient}", repr(limits))
        pytester.makepyfile(**{f"test_{number}": module})
    result = run_pytest("", f"--basetemp={basetemp}", "-rN", "--junit-xml=junit.xml")
    failures = {
        (str(test.get("classname")), str(test.get("name"))): failure.text or ""
        for test in ET.parse(pytester.path / "junit.xml").getroot().iter("testcase")
        if (failure := test.find("failure")) is not None
    }
    for number, case in enumerate(cases):
        check(case, failures.get((f"test_{number}", "test_bad"), "no failure"))
    # also no failure of a next test, and no error because something was left
    result.assert_outcomes(failed=len(cases), passed=len(cases))
    assert not having_open(basetemp, "/"), "processes are left"
    assert not list(basetemp.glob(FOLDERS)), "folders are left"


def check(case: str, text: str) -> None:
    lines = text.splitlines()
    assert [line for line in lines if re.match(pattern(BAD[case][1]), line)], f"{case}\n{text}"
    # one, but for what the adapter itself has raised
    ours = [line for line in lines if re.match(r"E +pytest_gracekill\.errors\.", line)]
    assert len(ours) <= 1 + (case == "pid before it is there"), f"{case}\n{text}"
    assert ">       gracekill(bad, flush_time=0.05).check()" in lines, "the user's line is shown"
    assert "pytest_gracekill/" not in text.replace("pytest_gracekill/errors.py", ""), text


def test_a_step_that_hangs_is_told_before_pytest_timeout_ends_the_test(
    run_pytest: RunPytest,
) -> None:
    source = """
    import subprocess, threading

    def bad(child):
        vm = subprocess.Popen(child.argv)
        threading.Event().wait()
        yield vm.kill

    def test_bad(gracekill):
        gracekill(bad)
    """
    result = run_pytest(source, "--timeout=15")  # what is left has to do for the traceback
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert re.search(
        r"StartError: the start of the adapter bad did not end within \d+(\.\d+)? s;", text
    )
    assert "Timeout (>" not in text
