"""What a contender says of a routine: only what was seen of it, and never another's fault."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import select
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gracekill.errors import UsageError
from pytest_gracekill.witness import contenders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill import Report
    from pytest_gracekill.fixtures import Judge


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A contender that completes nothing is not waited for as long as usually."""
    monkeypatch.setattr(contenders, "FIRST_OPERATION", 0.5)


def good(pid: int) -> bool:
    fd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(fd, signal.SIGTERM)
        return bool(select.select([fd], [], [], 10)[0])
    finally:
        os.close(fd)


async def good_async(pid: int) -> bool:
    return await asyncio.to_thread(good, pid)


class Manager:
    def __init__(self, lock: Any = None) -> None:
        self.lock = threading.Lock() if lock is None else lock

    def status(self) -> str:
        with self.lock:
            return "running"


def words(report: Report) -> dict[str, str]:
    return {
        name: ", ".join((verdict.word, *verdict.also))
        for name, verdict in report.verdicts.items()
        if verdict.status != "ok"
    }


def told(report: Report) -> str:
    verdict = report.verdicts["progress"]
    return " ".join((verdict.evidence, *verdict.detail))


# -- contenders that do not come back


@pytest.mark.parametrize("traced", [False, True])
def test_never_back(gracekill: Judge, *, traced: bool) -> None:
    """It stands for a moment only when the call ends: its latency shows nothing."""
    manager, over, stands, never = Manager(), *(threading.Event() for _ in range(3))

    def status() -> None:
        manager.status()
        if over.is_set():
            stands.set()
            never.wait()

    def stop(pid: int) -> bool:
        done = good(pid)
        over.set()
        stands.wait()
        return done

    report = gracekill(
        stop,
        flush_time=0.2,
        contend=[status],
        stall_limit=0.5,
        locks=[(manager, "lock")] if traced else (),
    )
    never.set()
    assert words(report) == {"progress": "STALLED"}
    assert told(report).startswith("status had not come back ")
    assert "test_contenders.py:" in told(report)
    assert "s after the call" in told(report)
    assert report.verdicts["progress"].moments


def test_a_slow_contender_comes_back_late(gracekill: Judge) -> None:
    """Its own pace is slow: it has five times as long."""

    def backup() -> None:
        time.sleep(0.9)

    report = gracekill(good, flush_time=0.2, contend=[backup], stall_limit=0.2)
    report.check()


def test_one_that_stood_before_the_call(gracekill: Judge) -> None:
    manager, never, done = Manager(), threading.Event(), 0

    def watch() -> None:
        nonlocal done
        done += 1
        if done > 5:
            never.wait()

    report = gracekill(good, flush_time=0.2, contend=[watch, manager.status], stall_limit=0.2)
    never.set()
    assert words(report) == {"progress": "unknown"}
    assert "watch" in told(report)


@pytest.mark.parametrize("alone", [True, False])
def test_one_that_did_nothing(gracekill: Judge, *, alone: bool) -> None:
    manager, event = Manager(), threading.Event()
    contend: list[Callable[[], object]] = [event.wait] if alone else [manager.status, event.wait]
    report = gracekill(good, flush_time=0.2, contend=contend, stall_limit=0.5)
    event.set()
    assert words(report) == {"progress": "unknown"}
    assert "completed no operation at all" in told(report)
    assert alone or "Event.wait" in told(report)


def test_a_hung_routine_is_not_told_twice(gracekill: Judge) -> None:
    manager, never = Manager(), threading.Event()

    def stop(pid: int) -> None:
        with manager.lock:
            while True:
                time.sleep(0.01)

    def status() -> None:
        manager.status()
        if not manager.lock.locked():
            return
        never.wait()

    report = gracekill(stop, flush_time=0.1, budget=0.6, contend=[status], force=None)
    never.set()
    assert words(report)["promptness"] == "HUNG"
    assert words(report).get("progress", "unknown") == "unknown"


# -- what contenders raise


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        GeneratorExit(),
        KeyboardInterrupt(),
        asyncio.CancelledError("gone"),
        ExceptionGroup("several", [ValueError(1)]),
        pytest.skip.Exception("no such tool"),
        pytest.fail.Exception("wrong"),
        UsageError("wrong"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_a_contender_raises(
    gracekill: Judge, error: BaseException, *, asynchronous: bool
) -> None:
    if asynchronous and isinstance(error, (GeneratorExit, KeyboardInterrupt)):
        pytest.skip("it ends the event loop itself")
    called = threading.Event()

    def raises() -> None:
        if called.is_set():
            raise error

    async def raises_async() -> None:
        raises()
        await asyncio.sleep(0)

    def stop(pid: int) -> bool:
        called.set()
        return good(pid)

    async def stop_async(pid: int) -> bool:
        return await asyncio.to_thread(stop, pid)

    report = (
        gracekill(stop_async, flush_time=0.3, contend=[raises_async])
        if asynchronous
        else gracekill(stop, flush_time=0.3, contend=[raises])
    )
    assert words(report) == {"progress": "STALLED"}
    assert f"raised {type(error).__name__}" in told(report)
    # the line, also where pytest or a library has raised it
    assert "test_contenders.py:" in told(report)
    assert "before the routine" not in told(report)


def test_a_text_that_raises_is_told(gracekill: Judge) -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    called = threading.Event()

    def raises() -> None:
        if called.is_set():
            raise OddError

    def stop(pid: int) -> bool:
        called.set()
        return good(pid)

    report = gracekill(stop, flush_time=0.3, contend=[raises])
    assert words(report) == {"progress": "STALLED"}
    assert "OddError (its text raises RuntimeError)" in told(report)


def test_a_contender_that_fails_by_itself_is_told_so(gracekill: Judge) -> None:
    def typo() -> None:
        raise NameError("manger")

    report = gracekill(good, flush_time=0.2, contend=[typo])
    assert "before the routine was called" in told(report)
    assert report.verdicts["progress"].advice == "the contender fails by itself: mend it first"


@pytest.mark.parametrize("what", ["coroutine", "generator"])
def test_a_contender_of_which_nothing_is_run(gracekill: Judge, what: str) -> None:
    async def status() -> None: ...

    def numbers() -> Iterator[int]:
        yield 1

    def makes() -> object:
        return status() if what == "coroutine" else numbers()

    with pytest.raises(UsageError, match=r"contend=.*it returns an? (awaitable|generator)"):
        gracekill(good, flush_time=0.2, contend=[makes])


# -- tasks that do not end


@pytest.mark.parametrize("kind", [asyncio.CancelledError, BaseException])
@pytest.mark.parametrize("after", [0, 30])
def test_a_task_that_swallows_its_cancellation(
    gracekill: Judge, kind: type[BaseException], after: int
) -> None:
    done = 0

    async def watch() -> None:
        nonlocal done
        done += 1
        while done > after:
            try:
                await asyncio.sleep(0.01)
            except kind:
                pass

    report = gracekill(good_async, flush_time=0.2, contend=[watch], stall_limit=0.5)
    assert words(report) == {"progress": "unknown"}
    assert "watch does not end when it is cancelled" in told(report)
    assert "in watch" in told(report)


def test_a_contender_that_blocks_the_loop_is_named(gracekill: Judge) -> None:
    """The routine was never called: it has not hung."""

    async def status() -> None:
        while True:
            time.sleep(0.01)  # noqa: ASYNC251 - it is what is tested

    with pytest.raises(
        UsageError, match=r"contend=status: the event loop stood still .* in status"
    ):
        gracekill(good_async, flush_time=0.2, contend=[status], budget=1.0)


def test_a_task_that_waits_for_good(gracekill: Judge) -> None:
    over = asyncio.Event()

    async def status() -> None:
        await asyncio.sleep(0)
        if over.is_set():
            await asyncio.Event().wait()

    async def stop(pid: int) -> bool:
        done = await good_async(pid)
        over.set()
        await asyncio.sleep(0.1)
        return done

    report = gracekill(stop, flush_time=0.2, contend=[status], slack=5)
    assert words(report) == {"progress": "STALLED"}
    assert told(report).startswith("status had not come back ")
    assert "in status" in told(report)


def test_a_task_of_the_routine_that_does_not_end_is_named(gracekill: Judge) -> None:
    tasks = []

    async def background() -> None:
        while True:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                pass

    async def stop(pid: int) -> bool:
        tasks.append(asyncio.create_task(background()))
        return await good_async(pid)

    with pytest.raises(UsageError, match=r"in background\) does not end when it is cancelled"):
        gracekill(stop, flush_time=0.2)


# -- locks through other references


@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
@pytest.mark.parametrize("how", ["default", "closure", "method", "condition"])
def test_held_through_another_reference(
    gracekill: Judge, kind: Callable[[], Any], how: str
) -> None:
    manager = Manager(kind())
    captured = manager.lock
    condition = threading.Condition(captured)
    acquire, release = captured.acquire, captured.release

    def by_default(pid: int, lock: Any = captured) -> bool:
        with lock:
            return good(pid)

    def by_closure(pid: int) -> bool:
        with captured:
            return good(pid)

    def by_method(pid: int) -> bool:
        acquire()
        try:
            return good(pid)
        finally:
            release()

    def by_condition(pid: int) -> bool:
        with condition:
            return good(pid)

    stop = {
        "default": by_default,
        "closure": by_closure,
        "method": by_method,
        "condition": by_condition,
    }[how]
    report = gracekill(stop, flush_time=0.6, contend=[manager.status], locks=[(manager, "lock")])
    assert words(report) == {"locks": "HELD OVER WAIT", "progress": "STALLED"}
    assert "through a reference not traced" in report.verdicts["locks"].evidence
    assert "held by the routine" in told(report)
    assert manager.lock is captured
    assert not captured.acquire(blocking=False) or captured.release() is None


def test_another_holder_is_not_the_routine(gracekill: Judge) -> None:
    """A thread of the user's holds it: the routine is right, and nobody says that all is well."""
    manager = Manager()
    captured = manager.lock
    begin, taken, end = threading.Event(), threading.Event(), threading.Event()

    def holds() -> None:
        begin.wait()
        with captured:
            taken.set()
            end.wait()

    thread = threading.Thread(target=holds, daemon=True)
    thread.start()

    def stop(pid: int) -> bool:
        begin.set()
        taken.wait()
        try:
            return good(pid)
        finally:
            end.set()

    report = gracekill(stop, flush_time=0.6, contend=[manager.status], locks=[(manager, "lock")])
    thread.join()
    assert set(words(report).values()) <= {"unknown"}


def test_nobody_can_say_who_holds_it(gracekill: Judge) -> None:
    """Two could hold it: what is known is that somebody did."""
    manager = Manager()
    captured = manager.lock

    def peek() -> None:
        with captured:
            pass

    def stop(pid: int) -> bool:
        with captured:
            return good(pid)

    report = gracekill(
        stop, flush_time=0.6, contend=[manager.status, peek], locks=[(manager, "lock")]
    )
    assert words(report) == {"locks": "unknown", "progress": "unknown"}
    assert "who held it is not known" in report.verdicts["locks"].evidence


@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
def test_kept_through_another_reference(gracekill: Judge, kind: Callable[[], Any]) -> None:
    manager = Manager(kind())
    captured = manager.lock

    def stop(pid: int) -> bool:
        done = good(pid)
        captured.acquire()
        time.sleep(0.5)
        return done

    report = gracekill(
        stop,
        flush_time=0.2,
        contend=[manager.status],
        locks=[(manager, "lock")],
        stall_limit=0.3,
        slack=5,
    )
    captured.release()
    assert words(report)["locks"].startswith("LOCK LOST")
    assert "STALLED" in words(report)["progress"]


# -- tries


def test_timed_tries_want_it(gracekill: Judge) -> None:
    manager = Manager()

    def status() -> None:
        while not manager.lock.acquire(timeout=0.05):
            pass
        manager.lock.release()

    def stop(pid: int) -> bool:
        with manager.lock:
            return good(pid)

    report = gracekill(stop, flush_time=0.6, contend=[status], locks=[(manager, "lock")])
    assert words(report) == {"locks": "HELD OVER WAIT", "progress": "STALLED"}


def test_tries_behind_a_contender_are_no_finding(gracekill: Judge) -> None:
    """The routine is right: another contender holds the lock that it never takes."""
    manager = Manager()

    def backup() -> None:
        with manager.lock:
            time.sleep(0.4)

    def status() -> None:
        while not manager.lock.acquire(blocking=False):
            time.sleep(0.002)
        manager.lock.release()

    report = gracekill(good, flush_time=0.6, contend=[backup, status], locks=[(manager, "lock")])
    report.check()


# -- when the machine stands still


@contextmanager
def stopped(seconds: float) -> Iterator[None]:
    """Stop this process from outside, after its next few instructions."""
    script = f"kill -STOP {os.getpid()}; sleep {seconds}; kill -CONT {os.getpid()}"
    with subprocess.Popen(["sh", "-c", script], start_new_session=True):
        time.sleep(0.05)
        yield


@pytest.mark.parametrize("traced", [False, True])
def test_a_standstill_is_not_the_routines(gracekill: Judge, *, traced: bool) -> None:
    """Even one while it holds the lock for a moment."""
    manager = Manager()

    def stop(pid: int) -> bool:
        with manager.lock, stopped(1.5):
            pass
        return good(pid)

    report = gracekill(
        stop,
        flush_time=0.6,
        contend=[manager.status],
        locks=[(manager, "lock")] if traced else (),
        slack=5,
        stall_limit=0.5,
    )
    report.check("locks" if traced else "data", "progress")
    assert re.search(r"stood still for [1-9]\.\d\d s, which does not count", told(report))


def test_a_standstill_of_the_loop_is_not_the_routines(gracekill: Judge) -> None:
    async def stop(pid: int) -> bool:
        with stopped(1.5):
            pass
        return await good_async(pid)

    gracekill(stop, flush_time=0.3, slack=5, stall_limit=0.5).check("progress")


def test_a_standstill_before_the_call_lifts_no_limit(gracekill: Judge) -> None:
    manager, done = Manager(), 0

    def status() -> None:
        nonlocal done
        done += 1
        if done == 5:
            with stopped(1.5):
                pass
        manager.status()

    def stop(pid: int) -> bool:
        with manager.lock:
            return good(pid)

    report = gracekill(stop, flush_time=1.2, contend=[status], stall_limit=0.4)
    assert words(report) == {"progress": "STALLED"}


def test_a_call_in_c_that_keeps_the_interpreter_lock_is_the_routines(gracekill: Judge) -> None:
    def stop(pid: int) -> bool:
        ctypes.PyDLL(None).usleep(900_000)
        return good(pid)

    report = gracekill(stop, flush_time=0.3, contend=[Manager().status], stall_limit=0.5)
    assert words(report) == {"progress": "STALLED"}
    assert "kept the interpreter lock" in told(report) or "took 0.9" in told(report)
    assert report.verdicts["progress"].moments
