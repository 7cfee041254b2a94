"""A test whose clock is frozen: what is wrong is seen, what is right is ok."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill import UsageError, clock

freezegun = pytest.importorskip("freezegun")

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from pytest_gracekill.child.unstarted import Child
    from pytest_gracekill.fixtures import Judge

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)


def right(popen: subprocess.Popen[bytes]) -> None:
    popen.terminate()
    popen.wait()


def brutal(popen: subprocess.Popen[bytes]) -> None:
    popen.kill()
    popen.wait()


async def right_async(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        await asyncio.sleep(0.01)


def forks(child: Child) -> Iterator[Callable[[], None]]:
    process = multiprocessing.get_context("fork").Process(target=child.target)
    process.start()

    def stop() -> None:
        process.terminate()
        process.join()

    yield stop


def yields_async(child: Child) -> Iterator[Callable[[], object]]:
    process = multiprocessing.get_context("fork").Process(target=child.target)
    process.start()

    async def stop() -> None:
        process.terminate()
        while process.is_alive():  # noqa: ASYNC110 - a process that sets no event
            await asyncio.sleep(0.01)

    yield stop
    process.join()


@pytest.mark.parametrize("how", [{"tick": False}, {"tick": True}], ids=["still", "ticking"])
@pytest.mark.parametrize("routine", [right, forks])
def test_what_is_right_is_ok(
    gracekill: Judge, how: dict[str, bool], routine: Callable[..., object]
) -> None:
    with freezegun.freeze_time("2020-01-01", **how):
        report = gracekill(routine, flush_time=0.2, contenders=0)
    report.check()


@pytest.mark.parametrize("how", [{"tick": False}, {"tick": True}], ids=["still", "ticking"])
def test_what_is_lost_is_seen(gracekill: Judge, how: dict[str, bool]) -> None:
    with freezegun.freeze_time("2020-01-01", **how):
        report = gracekill(brutal, flush_time=0.3, contenders=0)
    assert report.verdicts["data"].word == "DATA LOST"


def test_a_routine_that_hangs_is_cut_off_when_its_budget_is_over(gracekill: Judge) -> None:
    with freezegun.freeze_time("2020-01-01"):
        report = gracekill(
            lambda pid: threading.Event().wait(60),  # noqa: ARG005 - its name says what it gets
            flush_time=0.1,
            contenders=0,
            budget=0.3,
        )
    assert report.verdicts["promptness"].word == "HUNG"


@pytest.mark.parametrize("routine", [right_async, yields_async])
def test_an_async_routine_is_refused(gracekill: Judge, routine: Callable[..., object]) -> None:
    with (
        freezegun.freeze_time("2020-01-01"),
        pytest.raises(UsageError, match=r"time\.monotonic is frozen, and an async routine would"),
    ):
        gracekill(routine, flush_time=0.1, contenders=0)
    gracekill(routine, flush_time=0.1, contenders=0).check()


@pytest.mark.parametrize("how", [{"tick": True}, {"real_asyncio": True}])
def test_an_async_routine_whose_loop_has_the_real_clock(
    gracekill: Judge, how: dict[str, bool]
) -> None:
    with freezegun.freeze_time("2020-01-01", **how):
        report = gracekill(right_async, flush_time=0.1, contenders=0)
    report.check()


def test_the_clock_itself_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "monotonic_ns", lambda: 1)
    with pytest.raises(UsageError, match=r"says that a wait of 2 ms took 0\.000 ms"):
        clock.check()


def test_it_reads_what_the_system_has() -> None:
    with freezegun.freeze_time("2020-01-01"):
        frozen = time.monotonic()
        first = clock.monotonic_ns()
        clock.check()
        assert time.monotonic() == frozen
        assert clock.monotonic_ns() > first
