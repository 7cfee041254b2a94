"""An asyncio manager takes part: its callers, its other coroutines, the loop that they share."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gracekill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gracekill import Report
    from pytest_gracekill.fixtures import Judge


class Manager:
    """Keeps one VM; whoever stops it awaits the pidfd."""

    def __init__(self) -> None:
        self.state = "running"
        self.guard = asyncio.Lock()
        self.thread_guard = threading.Lock()
        self._asked = False

    async def status(self) -> str:
        async with self.guard:
            return self.state

    async def names(self) -> list[str]:
        await asyncio.sleep(0)
        return ["vm"]

    def metrics(self) -> str:
        with self.thread_guard:
            return self.state

    async def stop(self, pid: int) -> bool:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            async with self.guard:
                if not self._asked:
                    self._asked = True
                    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            return await self.ended(pidfd, 10)
        finally:
            os.close(pidfd)

    async def ended(self, pidfd: int, seconds: float) -> bool:
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        mine = os.dup(pidfd)
        loop.add_reader(mine, gone.set)
        try:
            await asyncio.wait_for(gone.wait(), seconds)
        except TimeoutError:
            return False
        else:
            self.state = "dead"
            return True
        finally:
            loop.remove_reader(mine)
            os.close(mine)


def judge(gracekill: Judge, manager: Manager, **arguments: Any) -> Report:
    return gracekill(
        manager.stop,
        **{
            "contend": [manager.status, manager.names, manager.metrics],
            "flush_time": 0.5,
            **arguments,
        },
    )


def words(report: Report) -> dict[str, str]:
    return {
        name: ", ".join((verdict.word, *verdict.also))
        for name, verdict in report.verdicts.items()
        if verdict.status != "ok"
    }


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    yield
    names = [thread.name for thread in threading.enumerate()]
    assert [name for name in names if name.startswith(("gracekill", "asyncio"))] == []


@pytest.mark.parametrize("callers", [1, 2, 4])
def test_right_manager(gracekill: Judge, callers: int) -> None:
    manager = Manager()
    report = judge(gracekill, manager, callers=callers, locks=[(manager, "thread_guard")])
    report.check()
    # its domains are no model of ours
    assert set(report.not_judged) <= {"identity"}
    # two coroutines, a thread, and the pulse
    assert report.verdicts["progress"].evidence.startswith("4 contenders, longest stall")
    assert [call.success for call in report.calls] == [True] * callers


def test_the_loop_takes_part_without_contenders(gracekill: Judge) -> None:
    report = judge(gracekill, Manager(), contend=())
    report.check()
    assert report.verdicts["progress"].evidence.startswith("1 contender, longest stall")


class Blocks(Manager):
    async def ended(self, pidfd: int, seconds: float) -> bool:
        exited = select.poll()
        exited.register(pidfd, select.POLLIN)
        return bool(exited.poll(seconds * 1000))  # FLAW: everything else stands still


@pytest.mark.parametrize("alone", [True, False])
def test_a_call_that_blocks_stops_the_loop(gracekill: Judge, *, alone: bool) -> None:
    manager = Blocks()

    async def poll() -> None:
        await asyncio.sleep(0.01)

    async def backup() -> None:
        await asyncio.sleep(0.03)

    # the call is made when the slowest of them has a pace, and finds the others at work
    work = () if alone else [poll, backup]
    report = judge(gracekill, manager, flush_time=1.4, contend=work)
    assert words(report) == {"progress": "STALLED"}
    progress = report.verdicts["progress"]
    # the loop itself, also when others stood still in it
    assert progress.evidence.startswith("the event loop took ")
    assert progress.advice.startswith("await what takes its time: a call that blocks")
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    line = next(n for n, text in enumerate(lines, 1) if "# FLAW" in text)
    assert any(f"test_async_manager.py:{line} in Blocks.ended" in text for text in progress.detail)


class HoldsTheGuard(Manager):
    async def stop(self, pid: int) -> bool:
        async with self.guard:
            os.kill(pid, signal.SIGTERM)
            while os.path.exists(f"/proc/{pid}"):  # noqa: ASYNC110, ASYNC240, PTH110 - as people write it
                await asyncio.sleep(0.005)
        return True


def test_an_asyncio_lock_held_over_the_wait(gracekill: Judge) -> None:
    report = judge(gracekill, HoldsTheGuard(), flush_time=1.4)
    assert words(report) == {"progress": "STALLED"}
    assert report.verdicts["progress"].evidence.startswith("Manager.status took ")


class HoldsTheThreadGuard(Manager):
    async def stop(self, pid: int) -> bool:
        with self.thread_guard:
            return await super().stop(pid)


def test_a_thread_beside_the_loop_waits_for_a_lock_held_in_it(gracekill: Judge) -> None:
    manager = HoldsTheThreadGuard()
    report = judge(gracekill, manager, locks=[(manager, "thread_guard")])
    assert words(report) == {"locks": "HELD OVER WAIT", "progress": "STALLED"}
    assert "HoldsTheThreadGuard.thread_guard held for " in report.verdicts["locks"].evidence
    assert "wanted meanwhile by Manager.metrics" in report.verdicts["locks"].evidence
    assert "1 of 4 contenders stood still; Manager.metrics" in report.verdicts["progress"].evidence


def test_a_lock_that_another_coroutine_holds_is_not_the_routines(gracekill: Judge) -> None:
    manager = Manager()

    async def report_state() -> None:
        # one thread: nobody else in the loop takes it
        with manager.thread_guard:
            await asyncio.sleep(0.002)

    judge(
        gracekill,
        manager,
        locks=[(manager, "thread_guard")],
        contend=[report_state],
        callers=2,
    ).check()


def test_lock_lost(gracekill: Judge) -> None:
    manager = Manager()

    async def stop(pid: int) -> bool:
        done = await manager.stop(pid)
        manager.thread_guard.acquire()
        return done

    report = gracekill(stop, locks=[(manager, "thread_guard")], flush_time=0.2)
    assert words(report) == {"locks": "LOCK LOST"}
    assert not manager.thread_guard.locked()


def test_contenders_that_are_slow_by_themselves(gracekill: Judge) -> None:
    manager = Manager()

    async def backup() -> None:
        await asyncio.sleep(1.3)

    judge(gracekill, manager, contend=[backup, manager.status], flush_time=1.2).check()


def test_a_contender_that_raises(gracekill: Judge) -> None:
    manager = Manager()
    seen = asyncio.Event()

    async def console() -> None:
        await asyncio.sleep(0)
        if manager.state == "dead":
            seen.set()
            raise ConnectionResetError("the console is gone")

    async def stop(pid: int) -> bool:
        done = await manager.stop(pid)
        await asyncio.wait_for(seen.wait(), 30)
        return done

    report = gracekill(stop, contend=[console], flush_time=0.2, slack=30)
    assert words(report) == {"progress": "STALLED"}
    assert report.verdicts["progress"].evidence.startswith(
        "console raised ConnectionResetError: the console is gone at t+"
    )


# -- several callers in one loop


class SecondRaises(Manager):
    async def stop(self, pid: int) -> bool:
        if self._asked:
            while self.state != "dead":  # noqa: ASYNC110 - as people write it
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)
            raise RuntimeError("it is being stopped already")
        return await super().stop(pid)


class SecondIsEarly(Manager):
    async def stop(self, pid: int) -> bool:
        await asyncio.sleep(0)
        if self._asked:
            return True
        return await super().stop(pid)


@pytest.mark.parametrize(("kind", "word"), [(SecondRaises, "RAISED"), (SecondIsEarly, "EARLY")])
def test_every_caller_gets_a_true_answer(gracekill: Judge, kind: type[Manager], word: str) -> None:
    report = judge(gracekill, kind(), callers=2, contend=())
    assert words(report) == {"outcome": word}
    assert report.verdicts["outcome"].evidence.startswith("caller-2: ")
    assert report.result is True


class Hangs(Manager):
    how = "forever"

    async def stop(self, pid: int) -> bool:
        if self._asked:
            while self.how == "blocking":
                time.sleep(0.05)  # noqa: ASYNC251 - the flaw
            await asyncio.Event().wait()
        return await super().stop(pid)


def test_a_caller_that_hangs_is_cut_off(gracekill: Judge) -> None:
    report = judge(gracekill, Hangs(), callers=2, budget=2.0, flush_time=0.2)
    assert words(report) == {"promptness": "HUNG"}
    promptness = report.verdicts["promptness"]
    assert promptness.evidence.startswith("caller-2: cut off after its budget of 2.0 s in ")
    assert any(
        "test_async_manager.py" in line and "Hangs.stop" in line for line in promptness.detail
    )
    assert [call.success for call in report.calls] == [True, None]


def test_a_caller_that_blocks_for_good_is_cut_off(gracekill: Judge) -> None:
    manager = Hangs()
    manager.how, manager._asked = "blocking", True
    report = judge(gracekill, manager, callers=2, budget=0.5, stall_limit=0.3)
    assert report.verdicts["promptness"].word == "HUNG"
    assert "Hangs.stop" in report.verdicts["promptness"].evidence
    assert report.verdicts["progress"].word == "STALLED"
    assert report.verdicts["progress"].evidence.startswith("the event loop took ")
    assert [call.success for call in report.calls] == [None, None]


@pytest.fixture
def sigint_interrupts() -> Iterator[None]:
    """Also below a shell that has put its job in the background, which then ignores SIGINT."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("sigint_interrupts")
def test_interrupted(gracekill: Judge) -> None:
    manager = Manager()
    lock = manager.thread_guard

    async def stop(pid: int) -> bool:
        await asyncio.sleep(0.05)
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(30)
        return True

    with pytest.raises(KeyboardInterrupt):
        gracekill(
            stop,
            contend=[manager.status, manager.metrics],
            locks=[(manager, "thread_guard")],
            callers=2,
        )
    assert manager.thread_guard is lock


# -- other shapes


def test_a_generator_that_yields_a_coroutine_function(gracekill: Judge) -> None:
    manager = Manager()
    cleaned_up: list[str] = []

    def manage(child: Any) -> Iterator[Any]:
        import subprocess

        process = subprocess.Popen(child.argv, stdin=subprocess.DEVNULL)
        child.wait_ready()

        async def stop() -> bool:
            done = await manager.stop(process.pid)
            process.wait()
            return done

        yield stop
        cleaned_up.append("once")

    gracekill(manage, contend=[manager.status], callers=2, flush_time=0.2).check()
    assert cleaned_up == ["once"]


def test_a_generator_without_a_loop_for_the_contender(gracekill: Judge) -> None:
    manager = Manager()

    def manage(child: Any) -> Iterator[Any]:
        import subprocess

        process = subprocess.Popen(child.argv, stdin=subprocess.DEVNULL)
        child.wait_ready()
        yield process.terminate
        process.kill()
        process.wait()

    with pytest.raises(UsageError, match=r"contend=Manager\.status: a coroutine function runs in"):
        gracekill(manage, contend=[manager.status], flush_time=0.1)


def test_a_driver_routine_has_one_caller_a_thread(gracekill: Judge) -> None:
    async def stop(driver: Any, domain: Any) -> bool:
        return True

    with pytest.raises(UsageError, match=r"callers=2: .* its locks belong to threads"):
        gracekill(stop, callers=2)


def test_plain_function_that_hands_on_a_coroutine(gracekill: Judge) -> None:
    """It has no loop of its own: each caller awaits in its thread."""

    def stop(pid: int) -> Any:
        return Manager().stop(pid)

    report = gracekill(stop, callers=2, flush_time=0.2)
    report.check()
    assert [call.success for call in report.calls] == [True, True]
    assert report.not_judged["progress"] == "no contenders took part"
