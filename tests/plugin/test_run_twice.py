"""A trial that the machine has spoilt is run once more, and its test says so."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import RunPytest

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)

#: A right manager. In the runs that are ``spoilt`` its VM is stopped, unseen, within the
#: flush, as by a machine that is too busy: it has had more time than it needs when it is killed.
MANAGER = """
import ctypes
import itertools
import subprocess
import time

runs = itertools.count(1)

def ended(vm, seconds):
    try:
        vm.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True

def manager(child, spoilt={spoilt}):
    run = next(runs)
    vm = subprocess.Popen(child.argv)

    def stop():
        vm.terminate()
        while child.journal.last("flush_begin") is None:
            time.sleep(0.001)
        if run in spoilt:
            ctypes.CDLL(None).kill(vm.pid, 19)
        if not ended(vm, 0.8 if run in spoilt else 60):
            vm.kill()
            vm.wait()

    yield stop
"""
TEST = """
def test_it(gracekill):
    report = gracekill(manager, flush_time=0.4)
    print(report)
    assert next(runs) == {runs} + 1
    report.check()
"""
WHY = "the first run could not be judged: the VM needs 0.40 s and was given "


def source(test: str, spoilt: tuple[int, ...] = (1,)) -> str:
    return MANAGER.format(spoilt=spoilt) + textwrap.dedent(test)


def test_a_second_run_is_judged_and_counted_apart(run_pytest: RunPytest, tmp_path: Path) -> None:
    found = run_pytest(source(TEST.format(runs=2)), "-rP", f"--junitxml={tmp_path / 'junit.xml'}")
    found.stdout.fnmatch_lines(
        [
            f"run twice: {WHY}*",
            "*gracekill: trials that were run twice*",
            f"*::test_it: {WHY}*machine was too busy*",
            "*1 passed, 1 run twice in *",
        ]
    )
    assert found.ret == 0
    assert "gracekill_run_twice" in (tmp_path / "junit.xml").read_text(encoding="utf-8")


def test_a_second_run_that_is_spoilt_too_is_unknown(run_pytest: RunPytest) -> None:
    found = run_pytest(source(TEST.format(runs=2), (1, 2)))
    found.stdout.fnmatch_lines([f"E*run twice: {WHY}*", "*1 failed, 1 run twice in *"])


def test_it_comes_through_xdist(run_pytest: RunPytest) -> None:
    found = run_pytest(source(TEST.format(runs=2)), "-n1")
    found.stdout.fnmatch_lines([f"*::test_it: {WHY}*", "*1 passed, 1 run twice in *"])


#: What there is only one run of.
ONCE = {
    "something is broken": """
        class Failing(Exception): pass

        def broken(child):
            for stop in manager(child):
                def failing():
                    stop()
                    raise Failing
                yield failing

        def test_it(gracekill):
            report = gracekill(broken, flush_time=0.4)
            assert report.verdicts["outcome"].word == "RAISED"
            assert next(runs) == 2
    """,
    "the clean-up fails": """
        def broken(child):
            yield from manager(child)
            raise LookupError

        def test_it(gracekill):
            assert not gracekill(broken, flush_time=0.4).ok
            assert next(runs) == 2
    """,
    "the routine is a method": """
        class Manager:
            def run(self, child):
                yield from manager(child)

        def test_it(gracekill):
            assert not gracekill(Manager().run, flush_time=0.4).ok
            assert next(runs) == 2
    """,
    "the user's contenders have worked": """
        def test_it(gracekill):
            assert not gracekill(manager, flush_time=0.4, contend=[time.monotonic]).ok
            assert next(runs) == 2
    """,
    "nothing is wrong": """
        def test_it(gracekill):
            gracekill(manager, flush_time=0.1).check()
            assert next(runs) == 2
    """,
}


@pytest.mark.parametrize("why", list(ONCE))
def test_there_is_no_second_run(run_pytest: RunPytest, why: str) -> None:
    spoilt = () if why == "nothing is wrong" else (1,)
    found = run_pytest(source(ONCE[why], spoilt))
    found.assert_outcomes(passed=1)
    assert "run twice" not in found.stdout.str()
