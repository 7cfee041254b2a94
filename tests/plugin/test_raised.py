"""Whatever a routine raises is in its report; what ends the test or the run passes through."""

from __future__ import annotations

import asyncio
import bdb
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from conftest import RunPytest

    from pytest_gracekill import Child
    from pytest_gracekill.fixtures import Judge

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)

LONG = 20.0


class Odd(BaseException):
    """Neither an Exception nor anything that Python knows."""


class OwnInterrupt(KeyboardInterrupt):
    """The user's interrupt is a plain KeyboardInterrupt."""


def raising(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


#: Name -> what the routine does, and what the report has to say of it.
RAISED: dict[str, tuple[Callable[[], object], str]] = {
    "cancelled": (raising(asyncio.CancelledError("by nobody")), "CancelledError: by nobody"),
    "generator exit": (raising(GeneratorExit("odd")), "GeneratorExit: odd"),
    "exit": (raising(SystemExit(3)), "SystemExit: 3"),
    "base": (raising(Odd("odd")), "Odd: odd"),
    "own interrupt": (raising(OwnInterrupt("mine")), "OwnInterrupt: mine"),
    "group": (
        raising(ExceptionGroup("two", [ValueError("v"), KeyError("k")])),
        "ExceptionGroup: two (2 sub-exceptions)",
    ),
    "base group": (
        raising(BaseExceptionGroup("one", [asyncio.CancelledError()])),
        "BaseExceptionGroup: one (1 sub-exception)",
    ),
    "skip": (lambda: pytest.skip("no such tool"), "Skipped: no such tool"),
    "fail": (lambda: pytest.fail("it is wrong"), "Failed: it is wrong"),
    "xfail": (lambda: pytest.xfail("some day"), "XFailed: some day"),
    "importorskip": (lambda: pytest.importorskip("no_such_module"), "Skipped: could not import"),
}


def by_pid(act: Callable[[], object]) -> Callable[..., object]:
    def stop(pid: int) -> None:
        os.kill(pid, signal.SIGTERM)
        act()

    return stop


def by_popen(act: Callable[[], object]) -> Callable[..., object]:
    def stop(popen: subprocess.Popen[bytes]) -> None:
        popen.terminate()
        popen.wait(LONG)
        act()

    return stop


def by_manager(act: Callable[[], object]) -> Callable[..., object]:
    def manager(child: Child) -> Iterator[Callable[[], object]]:
        vm = subprocess.Popen(child.argv)

        def stop() -> None:
            vm.terminate()
            act()

        yield stop
        vm.wait(LONG)

    return manager


def in_one_call(act: Callable[[], object]) -> Callable[..., object]:
    def start_and_stop(child: Child) -> None:
        vm = subprocess.Popen(child.argv)
        child.wait_ready()
        vm.terminate()
        vm.wait(LONG)
        act()

    return start_and_stop


def by_coroutine(act: Callable[[], object]) -> Callable[..., object]:
    async def stop(pid: int) -> None:
        os.kill(pid, signal.SIGTERM)
        await asyncio.sleep(0)
        act()

    return stop


def by_async_manager(act: Callable[[], object]) -> Callable[..., object]:
    async def manager(child: Child) -> AsyncIterator[Callable[[], object]]:
        vm = await asyncio.create_subprocess_exec(*child.argv)

        async def stop() -> None:
            vm.terminate()
            await vm.wait()
            act()

        yield stop

    return manager


def by_driver(act: Callable[[], object]) -> Callable[..., object]:
    def stop(driver: Any, domain: Any) -> None:
        os.kill(domain.pid, signal.SIGTERM)
        act()

    return stop


ADAPTERS = [by_pid, by_popen, by_manager, in_one_call, by_coroutine, by_async_manager, by_driver]
adapters = pytest.mark.parametrize("adapter", ADAPTERS)


@adapters
@pytest.mark.parametrize("name", RAISED)
def test_what_a_routine_raises_is_in_its_report(
    gracekill: Judge, adapter: Callable[..., Any], name: str
) -> None:
    act, text = RAISED[name]
    report = gracekill(adapter(act), flush_time=0.05, blocks=4, contenders=0)
    (call,) = report.calls
    assert call.success is False
    assert report.error is not None
    assert str(call).startswith(f"raised {text}")
    assert type(report.error).__name__ == text.partition(":")[0]
    assert text in " ".join(str(report).split())


@pytest.mark.parametrize("name", RAISED)
def test_of_another_caller(gracekill: Judge, name: str) -> None:
    act, text = RAISED[name]
    first: list[bool] = []

    def stop(pid: int) -> None:
        if first:
            act()
        first.append(True)
        os.kill(pid, signal.SIGTERM)

    report = gracekill(stop, flush_time=0.05, blocks=4, callers=2)
    assert sorted(str(call)[: 7 + len(text)] for call in report.calls) == [
        f"raised {text}",
        "returned None",
    ]


@pytest.mark.parametrize("callers", [1, 2])
def test_a_task_that_cancels_itself(gracekill: Judge, callers: int) -> None:
    async def stop(pid: int) -> None:
        os.kill(pid, signal.SIGTERM)
        task = asyncio.current_task()
        assert task is not None
        task.cancel("enough")
        await asyncio.sleep(LONG)

    report = gracekill(stop, flush_time=0.1, callers=callers)
    assert [str(call) for call in report.calls] == ["raised CancelledError: enough"] * callers


@pytest.mark.parametrize("callers", [1, 2])
def test_a_routine_that_cancels_every_task(gracekill: Judge, callers: int) -> None:
    """As an application does when it shuts down."""

    async def stop(pid: int) -> None:
        os.kill(pid, signal.SIGTERM)
        for task in asyncio.all_tasks():
            task.cancel("all")
        await asyncio.sleep(LONG)

    report = gracekill(stop, flush_time=0.1, callers=callers)
    assert {str(call) for call in report.calls} == {"raised CancelledError: all"}


def test_a_time_out_of_asyncio_is_a_time_out(gracekill: Judge) -> None:
    async def stop(pid: int) -> None:
        os.kill(pid, signal.SIGTERM)
        async with asyncio.timeout(0.01):
            await asyncio.sleep(LONG)

    assert isinstance(gracekill(stop, flush_time=0.1).error, TimeoutError)


# -- what passes through

PASSING = {
    "interrupt": KeyboardInterrupt("^C"),
    "exit": pytest.exit.Exception("enough"),
    "debugger": bdb.BdbQuit(),
    "group": BaseExceptionGroup("nursery", [ValueError(), KeyboardInterrupt("^C")]),
}


@adapters
@pytest.mark.parametrize("name", PASSING)
def test_what_ends_the_run_passes_through(
    gracekill: Judge, adapter: Callable[..., Any], name: str
) -> None:
    error = PASSING[name]
    with pytest.raises(type(error)) as caught:
        gracekill(adapter(raising(error)), flush_time=0.05, blocks=4, contenders=0)
    assert caught.value is error or name == "interrupt"  # asyncio makes one of its own


def test_pytest_exit_in_another_thread(gracekill: Judge) -> None:
    first: list[bool] = []

    def stop(pid: int) -> None:
        if first:
            pytest.exit("enough")
        first.append(True)
        os.kill(pid, signal.SIGTERM)

    with pytest.raises(pytest.exit.Exception, match="enough"):
        gracekill(stop, flush_time=0.05, blocks=4, callers=2)


def test_pytest_exit_in_an_exploration(gracekill: Judge) -> None:
    with pytest.raises(pytest.exit.Exception, match="enough"):
        gracekill.explore_threads(object, lambda _: pytest.exit("enough"), lambda _: None)
    with pytest.raises(pytest.exit.Exception, match="enough"):
        gracekill.explore_threads(
            object, lambda _: None, lambda _: None, check=lambda _: pytest.exit("enough")
        )


TIMEOUT = """
import ctypes, os, signal, pytest

def stop(pid):
    os.kill(pid, signal.SIGTERM)
    # a wait in C that no interrupt of the watchdog's ends, but a handler runs after
    while True:
        try:
            signal.pause()
        except pytest.fail.Exception:
            raise
        except BaseException:
            pass

@pytest.mark.timeout(3)
def test_it(gracekill):
    gracekill(stop, flush_time=0.05)
"""


def test_the_limit_of_pytest_timeout_is_not_the_routines(run_pytest: RunPytest) -> None:
    result = run_pytest(TIMEOUT, "--tb=short")
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines([r"E +Failed: Timeout \(>3.0s\) from pytest-timeout."])


# -- the adapter's other steps

STEPS = """
import subprocess, pytest

def stopped(vm):
    vm.terminate()
    vm.wait()

def no_tool(child):
    pytest.importorskip("no_such_module")
    yield

def too_old(child):
    vm = subprocess.Popen(child.argv)
    pytest.skip("the tool is too old")
    yield

async def no_tool_either(child):
    pytest.skip("no tool")
    yield

def no_tool_in_one_call(child):
    pytest.skip("no tool")

def wrong(child):
    pytest.fail("no tool, and it is needed")
    yield

def skips_in_its_call(child):
    vm = subprocess.Popen(child.argv)
    yield lambda: pytest.skip("not now")
    stopped(vm)

def skips_in_its_clean_up(child):
    vm = subprocess.Popen(child.argv)
    yield lambda: stopped(vm)
    pytest.skip("not now")

def exits_in_its_clean_up(child):
    vm = subprocess.Popen(child.argv)
    yield lambda: stopped(vm)
    pytest.exit("enough")

ROUTINES = [no_tool, too_old, no_tool_either, no_tool_in_one_call, wrong, skips_in_its_call,
            skips_in_its_clean_up]

@pytest.mark.parametrize("routine", ROUTINES)
def test_it(gracekill, routine):
    gracekill(routine, flush_time=0.05).check()

def test_last(gracekill):
    gracekill(exits_in_its_clean_up, flush_time=0.05)
"""


def test_a_skip_before_there_is_a_trial_is_one_of_the_test(run_pytest: RunPytest) -> None:
    result = run_pytest(STEPS, "-v", "--tb=short", "-rs")
    result.assert_outcomes(skipped=4, failed=3)
    result.stdout.re_match_lines([r"SKIPPED \[1\] .*: the tool is too old"])
    result.stdout.re_match_lines([r"E +Failed: no tool, and it is needed"])
    result.stdout.re_match_lines([r"E +outcome +\w+ +raised Skipped: not now"])
    result.stdout.re_match_lines(
        [r"E +AssertionError: gracekill: CLEAN-UP FAILED \(Skipped: not now\)"]
    )
    result.stdout.re_match_lines([r"!+ _pytest.outcomes.Exit: enough !+"])
    assert "test_last PASSED" not in result.stdout.str()


@pytest.mark.parametrize("kind", [GeneratorExit, asyncio.CancelledError, Odd])
def test_what_else_the_start_raises_is_an_error_of_the_adapter(
    gracekill: Judge, kind: type[BaseException]
) -> None:
    def manager(child: Child) -> Iterator[object]:
        raise kind("early")
        yield

    with pytest.raises(RuntimeError, match=f"raised before its yield.*{kind.__name__}: early"):
        gracekill(manager, flush_time=0.05)
