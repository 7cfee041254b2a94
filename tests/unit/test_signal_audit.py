"""The audit hook: one a process, installed late, inert outside of trials; what it lets happen when.

What concerns the whole process is tried in one of its own.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from _thread import start_new_thread
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gracekill.witness import signal_audit
from pytest_gracekill.witness.returning import when_returned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

US = os.getpid()


def run(script: str, *arguments: str) -> str:
    """What a script prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


COUNTS = """
import sys
added = []
sys.addaudithook(lambda event, _: added.append(event) if event == "sys.addaudithook" else None)
"""


def test_there_is_no_hook_before_the_first_trial_and_one_after_the_second(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        test_it="""
        import os, select, sys
        def stop(pid):
            fd = os.pidfd_open(pid)
            os.kill(pid, 15)
            select.select([fd], [], [], 20)
            os.close(fd)
        def hooks():
            return len(sys.modules["conftest"].added)
        def test_one():
            assert hooks() == 0
        def test_two(gracekill):
            for _ in range(2):
                gracekill(stop, flush_time=0.0).check()
            assert hooks() == 1
        """,
        conftest=COUNTS
        + """
import importlib, pkgutil, pytest_gracekill
for found in pkgutil.walk_packages(pytest_gracekill.__path__, "pytest_gracekill."):
    if ".child.program" not in found.name and not found.name.endswith("__main__"):
        importlib.import_module(found.name)
        """,
    )
    pytester.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=2)


def test_pytest_within_pytest_has_the_same_hook(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        f"""
        from pytest_gracekill.witness import signal_audit
        def test_it():
            assert id(signal_audit) == {id(signal_audit)}
        """
    )
    pytester.runpytest_inprocess("-p", "no:randomly").assert_outcomes(passed=1)


@pytest.mark.parametrize("error", ["RuntimeError('no hooks')", "ValueError('no hooks')"])
def test_a_hook_that_refuses_ours_is_told(error: str) -> None:
    script = f"""
import sys
def refuse(event, arguments):
    if event == "sys.addaudithook":
        raise {error}
sys.addaudithook(refuse)
from pytest_gracekill.errors import UnsupportedError
from pytest_gracekill.witness import signal_audit
for _ in range(2):
    try:
        signal_audit.install()
    except UnsupportedError as error:
        print(error)
"""
    first, second = run(script).splitlines()
    assert first == second
    assert first.startswith("an audit hook of this process, which was added before")


def test_what_comes_before_the_hook_is_seen_by_others_only() -> None:
    script = """
import os, sys
from pytest_gracekill.witness import signal_audit
seen = []
signal_audit.install()
os.kill(os.getpid(), 0)
with signal_audit.watched(lambda *it: seen.append(it[:3])):
    os.kill(os.getpid(), 0)
    sys.audit("os.kill", "no", "numbers")
    sys.audit("os.kill")
    sys.audit("myos.kill", 1, 2)
os.kill(os.getpid(), 0)
print(seen == [("os.kill", os.getpid(), 0)])
"""
    assert run(script) == "True\n"


def test_what_a_watcher_raises_prevents_the_signal() -> None:
    def refuse(_event: str, _whom: int, signum: int, _frame: FrameType | None) -> None:
        if signum:
            raise PermissionError("no")

    got: list[int] = []
    previous = signal.signal(signal.SIGUSR1, lambda signum, _: got.append(signum))
    try:
        with signal_audit.watched(refuse), pytest.raises(PermissionError, match="no"):
            os.kill(US, signal.SIGUSR1)
        assert got == []
        os.kill(US, signal.SIGUSR1)
        assert got == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, previous)


def caller(frame: FrameType | None) -> FrameType:
    assert frame is not None
    return frame


def test_a_thread_without_a_line_of_python() -> None:
    frames: list[FrameType | None] = []
    with signal_audit.watched(lambda *it: frames.append(it[3])):
        start_new_thread(os.kill, (US, 0))
        deadline = time.monotonic() + 30
        while not frames:
            assert time.monotonic() < deadline
            time.sleep(0.001)
    assert frames == [None]


def test_a_watcher_has_the_frame_of_the_caller() -> None:
    seen: list[str] = []
    with signal_audit.watched(lambda *it: seen.append(caller(it[3]).f_code.co_name)):
        os.kill(US, 0)
        functools.partial(os.kill, US)(0)
        os.killpg(os.getpgrp(), 0)
    assert seen == [test_a_watcher_has_the_frame_of_the_caller.__name__] * 3


# -- right after the call


@pytest.fixture
def order() -> list[str]:
    return []


@pytest.fixture
def after_each(order: list[str]) -> Iterator[None]:
    """Have it noted right after each signal by os.kill, and whether its handler has run."""
    previous = signal.signal(signal.SIGUSR1, lambda *_: order.append("handled"))

    def watch(_event: str, _whom: int, _signum: int, frame: FrameType | None) -> None:
        order.append("before")
        assert frame is not None
        when_returned(frame, lambda: order.append("after"))

    try:
        with signal_audit.watched(watch):
            yield
    finally:
        signal.signal(signal.SIGUSR1, previous)


def plain(order: list[str]) -> None:
    os.kill(US, signal.SIGUSR1)
    order.append("next")


def on_one_line(order: list[str]) -> None:
    _, _ = os.kill(US, signal.SIGUSR1), order.append("next")  # type: ignore[func-returns-value]


def by_partial(order: list[str]) -> None:
    functools.partial(os.kill, US)(signal.SIGUSR1)
    order.append("next")


def within_with(order: list[str]) -> None:
    with suppress(ZeroDivisionError):
        os.kill(US, signal.SIGUSR1)
        order.append("next")


@pytest.mark.usefixtures("after_each")
@pytest.mark.parametrize("send", [plain, on_one_line, by_partial, within_with])
def test_after_the_signal_and_before_what_comes_next(
    order: list[str], send: Callable[[list[str]], None]
) -> None:
    tracer = sys.gettrace()
    send(order)
    assert order == ["before", "handled", "after", "next"]
    assert sys.gettrace() is tracer


@pytest.mark.usefixtures("after_each")
def test_after_a_signal_that_failed(order: list[str]) -> None:
    try:
        os.kill(US, 999)
    except OSError:
        order.append("except")
    assert order == ["before", "after", "except"]


@pytest.mark.usefixtures("after_each")
def test_each_of_several(order: list[str]) -> None:
    for _ in [os.kill(US, signal.SIGUSR1) for _ in range(3)]:  # type: ignore[func-returns-value]
        pass
    assert order == ["before", "handled", "after"] * 3


def test_what_is_raised_afterwards_comes_out_of_the_call() -> None:
    def fail() -> None:
        raise KeyboardInterrupt

    with (
        signal_audit.watched(lambda *it: when_returned(caller(it[3]), fail)),
        pytest.raises(KeyboardInterrupt),
    ):
        os.kill(US, 0)


def test_a_debugger_goes_on(order: list[str]) -> None:
    """In a thread of its own, so that the tracer of a coverage run is not meddled with."""
    events: list[tuple[str, int]] = []

    def tracer(frame: FrameType, event: str, _argument: object) -> Any:
        if frame.f_code.co_name == "traced":
            events.append((event, frame.f_lineno - frame.f_code.co_firstlineno))
        return tracer

    def traced() -> None:
        os.kill(US, 0)
        order.append("next")
        order.append("last")

    def work() -> None:
        sys.settrace(tracer)
        traced()
        order.append(str(sys.gettrace() is tracer))
        sys.settrace(None)

    with signal_audit.watched(
        lambda *it: when_returned(caller(it[3]), lambda: order.append("after"))
    ):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert order == ["after", "next", "last", "True"]
    lines = [line for event, line in events if event == "line"]
    assert lines[0] == 1
    assert lines[-1] == 3
