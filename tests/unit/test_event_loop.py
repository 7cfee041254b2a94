"""Contenders in an event loop: their pace, their pulse, and their end, whatever they do."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_gracekill.errors import UsageError
from pytest_gracekill.witness import event_loop
from pytest_gracekill.witness.contenders import WARM_UP
from pytest_gracekill.witness.cut_off import CutOff
from pytest_gracekill.witness.event_loop import (
    PULSE,
    LoopContender,
    clear,
    close,
    conduct,
    pulse,
    watched,
)
from pytest_gracekill.witness.history import History

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

DEADLINE = 30.0


def contender(operation: Callable[[], Awaitable[object]], name: str = "status") -> LoopContender:
    return LoopContender(name, operation, History())


def run(
    call: Callable[[], Coroutine[object, object, object]],
    contenders: Sequence[LoopContender],
    on_start: Callable[[], object] = lambda: None,
) -> object:
    """Conduct, and see that no task is left."""

    async def body() -> object:
        try:
            async with asyncio.timeout(DEADLINE):
                return await conduct(call, contenders=contenders, on_start=on_start)
        finally:
            assert asyncio.all_tasks() == {asyncio.current_task()}

    return asyncio.run(body())


async def at_once() -> str:
    return "done"


async def tick() -> None:
    await asyncio.sleep(0)


def test_contenders_have_a_pace_before_the_call() -> None:
    one, two = contender(tick), contender(tick, "names")
    before: list[int] = []
    result = run(at_once, [one, two], on_start=lambda: before.extend([one.operations]))
    assert result == "done"
    assert before[0] >= WARM_UP
    assert two.operations >= WARM_UP
    assert all(started < ended for started, ended in one.spans)
    assert one.current is None


def test_contenders_work_during_the_call() -> None:
    one = contender(tick)
    seen: list[int] = []

    async def call() -> None:
        first = one.operations
        while one.operations < first + 10:  # noqa: ASYNC110 - it is what is tested
            await asyncio.sleep(0.001)
        seen.append(first)

    run(call, [one])
    assert seen


def test_a_contender_that_never_gets_warm_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_loop, "_WARM_WITHIN", 0.05)
    monkeypatch.setattr(event_loop, "_END_WITHIN", 0.05)

    async def backup() -> None:
        await asyncio.sleep(DEADLINE)

    slow = contender(backup, "backup")
    assert run(at_once, [slow, contender(tick)]) == "done"
    # what it had taken so far is on record
    ((started, ended),) = slow.spans
    assert ended - started >= 0.05e9
    assert slow.error is None


def test_a_contender_that_raises_has_ended() -> None:
    async def console() -> None:
        raise ConnectionResetError("gone")

    raising = contender(console, "console")
    assert run(at_once, [raising, contender(tick)]) == "done"
    assert isinstance(raising.error, ConnectionResetError)
    assert raising.raised_ns is not None
    assert raising.operations == 0


def test_what_pytest_raises_counts() -> None:
    async def looks() -> None:
        pytest.fail("it is dead")

    raising = contender(looks)
    run(at_once, [raising])
    assert type(raising.error).__name__ == "Failed"


def test_what_the_call_raises_goes_on() -> None:
    async def call() -> None:
        raise LookupError("vm")

    one = contender(tick)
    with pytest.raises(LookupError, match="vm"):
        run(call, [one, pulse(History())])
    assert one.error is None


def test_a_cut_in_a_contender_is_not_its_own_error() -> None:
    async def cut() -> None:
        raise CutOff

    one = contender(cut)

    async def work() -> None:
        with pytest.raises(CutOff):
            await one.work()

    asyncio.run(work())
    assert one.error is None


def catching(kind: type[BaseException], leave: asyncio.Event) -> Callable[[], Awaitable[None]]:
    """An operation that goes on whatever of this kind it gets."""

    async def stubborn() -> None:
        while not leave.is_set():
            try:
                await leave.wait()
            except kind:
                continue

    return stubborn


@pytest.mark.parametrize("kind", [asyncio.CancelledError, BaseException])
def test_a_contender_that_refuses_to_be_cancelled_is_ended_and_told(
    monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    for name in ("_WARM_WITHIN", "_END_WITHIN"):
        monkeypatch.setattr(event_loop, name, 0.05)
    leave = asyncio.Event()
    one = contender(catching(kind, leave))
    assert run(at_once, [one, pulse(History())]) == "done"
    assert one.stuck is not None
    assert one.stuck.deaf
    assert one.stuck.stands_in[-1].function.endswith("stubborn")
    assert one.operations == 0


@pytest.mark.parametrize("kind", [asyncio.CancelledError, BaseException])
def test_a_loop_is_closed_whatever_its_tasks_do(
    monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    monkeypatch.setattr(event_loop, "_END_WITHIN", 0.05)
    leave = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def leaves_it() -> None:
        tasks.append(asyncio.create_task(cast("Any", catching(kind, leave))(), name="watch"))
        tasks.append(asyncio.create_task(asyncio.sleep(DEADLINE)))
        await asyncio.sleep(0)

    runner = asyncio.Runner()
    runner.run(leaves_it())
    loop = runner.get_loop()
    with pytest.raises(
        UsageError, match=r"the task watch \(in .*test_event_loop\.py:\d+ in stubborn"
    ):
        close(runner)
    assert loop.is_closed()
    # the other one let itself be cancelled
    assert tasks[1].cancelled()


def test_a_loop_without_such_tasks_is_closed() -> None:
    runner = asyncio.Runner()
    runner.run(tick())
    loop = runner.get_loop()
    close(runner)
    assert loop.is_closed()


def test_a_cancellation_by_the_operation_is_what_it_raises() -> None:
    async def looks() -> None:
        raise asyncio.CancelledError("the session is gone")

    one = contender(looks)
    assert run(at_once, [one, contender(tick)]) == "done"
    assert isinstance(one.error, asyncio.CancelledError)


def test_the_pulse_goes_on_when_a_routine_cancels_every_task() -> None:
    beat = pulse(History())

    async def sweeps() -> None:
        for task in asyncio.all_tasks():
            if task.get_name() == beat.actor:
                task.cancel()
        operations = beat.operations
        while beat.operations < operations + 3:  # noqa: ASYNC110 - it is what is tested
            await asyncio.sleep(0.001)

    run(sweeps, [beat])
    assert beat.error is None


def test_clear_ends_what_is_left() -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("it")

    async def body() -> None:
        task = asyncio.create_task(forever())
        await asyncio.sleep(0)
        await clear()
        assert task.cancelled()

    asyncio.run(body())
    assert ended == ["it"]


def longest(one: LoopContender) -> float:
    return max(ended - started for started, ended in one.spans) / 1e9


def test_the_pulse_tells_for_how_long_the_loop_stood_still() -> None:
    beat = pulse(History())
    stands_for = 0.4

    async def blocks() -> None:
        time.sleep(stands_for)  # noqa: ASYNC251 - it is what is tested

    with watched([beat]):
        run(blocks, [beat])
    assert beat.name == PULSE
    assert longest(beat) >= stands_for
    # where it stood, in the code of the one who blocks
    assert "test_event_loop.py" in beat.stood_in[0].file
    assert beat.stood_in[0].function.endswith("blocks")


def test_the_pulse_of_a_loop_that_goes_on() -> None:
    beat = pulse(History())

    async def waits() -> None:
        await asyncio.sleep(0.4)

    with watched([beat]):
        run(waits, [beat])
    assert beat.operations > WARM_UP
    # on a busy machine it may be late, but then by chance, and not for the whole wait
    assert longest(beat) < 0.4


def test_the_watch_ends() -> None:
    for kind in (None, KeyboardInterrupt):
        try:
            with watched([pulse(History())]):
                if kind is not None:
                    raise kind
        except KeyboardInterrupt:
            pass
        names = [thread.name for thread in threading.enumerate()]
        assert "gracekill:pulse-1" not in names
