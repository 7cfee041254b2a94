"""Contenders in the event loop of an async routine, and the loop's own pulse.

What a coroutine waits for cannot be traced, so that its latency has to tell. The pulse is a task
that asks to be woken every millisecond: how late it is says for how long the loop stood still, as
it does behind a blocking call. Where it stands is looked at from a thread beside it.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from pytest_gracekill import clock
from pytest_gracekill.errors import UsageError
from pytest_gracekill.passing import passes_through
from pytest_gracekill.witness.contenders import (
    FIRST_OPERATION,
    THINK,
    WARM_UP,
    WARM_UP_SECONDS,
    Stuck,
    described,
)
from pytest_gracekill.witness.cut_off import CutOff
from pytest_gracekill.witness.sites import awaited_in, current_stack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence

    from pytest_gracekill.witness.history import Frame, History

#: The name under which the loop itself is judged.
PULSE = "the event loop"

#: A beat that is late by so many seconds is looked into, and how often that is done.
_LATE = 0.2
_BETWEEN_LOOKS = 0.05

#: Seconds that contenders have to come to a pace before the routine is called.
_WARM_WITHIN = 10.0
#: Seconds for which the trial waits for the pulse, and for a task that was cancelled.
_END_WITHIN = 1.0
_BETWEEN_LOOKS_FOR_PACE = 0.05

#: How often a coroutine that does not end when it is cancelled is ended by force.
_FORCED = 3

#: Coroutines that nothing can end, kept: their finalizer would fail, too.
_ABANDONED: list[object] = []


class LoopContender:
    """One task that repeats ``operation``; its spans are (start, end) in monotonic nanoseconds.

    To the verdicts it is what a `Contender` in a thread is. ``current`` is the start of the
    operation that it is in, ``stuck`` the one that had not ended when the trial stopped waiting.
    ``stood_in``: where the loop stood, in the longest of its standstills.
    """

    by_latency = True

    def __init__(
        self,
        name: str,
        operation: Callable[[], Awaitable[object]],
        history: History,
        think: float = THINK,
    ) -> None:
        self.name = name
        self._think = think
        self.error: BaseException | None = None
        self.raised_ns: int | None = None
        self.stood_in: tuple[Frame, ...] = ()
        self.spans: list[tuple[int, int]] = []
        self._operation = operation
        self._history = history
        self.current: int | None = None
        self.stuck: Stuck | None = None
        self._stopping = False
        self._warm = asyncio.Event()

    def __repr__(self) -> str:
        return f"<LoopContender {self.name}: {self.operations} operations>"

    @property
    def actor(self) -> str:
        """Its name in the history."""
        return f"gracekill:{self.name}"

    @property
    def operations(self) -> int:
        """How many operations have been completed."""
        return len(self.spans) - (self.stuck is not None)

    async def work(self) -> None:
        """Repeat the operation until `stop` or an error."""
        try:
            while not self._stopping:
                try:
                    await self._repeat()
                except asyncio.CancelledError as error:
                    if self._stopping:
                        raise
                    if self.name != PULSE:
                        # by the operation itself, or by the routine: it does no more
                        self._has_raised(error)
                        return
                    # a routine that cancels every task of its loop is watched all the same
                    cast("asyncio.Task[object]", asyncio.current_task()).uncancel()
        except (CutOff, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError):
            raise  # not the operation's own
        except BaseException as error:
            if passes_through(error):
                raise
            self._has_raised(error)
        finally:
            self._warm.set()

    async def _repeat(self) -> None:
        while not self._stopping:
            self.current = started = clock.monotonic_ns()
            await self._operation()
            self.current = None
            self.spans.append((started, clock.monotonic_ns()))
            self._look_whether_warm()
            if self._think:
                await asyncio.sleep(self._think)

    def _has_raised(self, error: BaseException) -> None:
        self.error, self.raised_ns = error, clock.monotonic_ns()
        self.current = None
        self._history.record("raised", self.actor, error=described(error))

    @property
    def is_cold(self) -> bool:
        """Whether it is worth waiting for a pace of its own; not for a slow first operation."""
        if self._warm.is_set():
            return False
        slow_ns = FIRST_OPERATION * 1e9
        if self.spans or self.current is None:
            return True
        return clock.monotonic_ns() - self.current < slow_ns

    def stop(self) -> None:
        """It ends after the operation that it is in; what that one has cost so far counts."""
        self._stopping = True

    def note_unfinished(self, waited: float, stands_in: tuple[Frame, ...]) -> None:
        """Put the operation that it is in on record, as far as it got."""
        if self.current is not None and self.stuck is None:
            now = clock.monotonic_ns()
            self.spans.append((self.current, now))
            self.stuck = Stuck(
                since_ns=self.current, until_ns=now, waited=waited, stands_in=stands_in
            )

    def note_deaf(self) -> None:
        """Put on record that it does not end when it is cancelled."""
        if self.stuck is not None:
            self.stuck = replace(self.stuck, deaf=True)

    def _look_whether_warm(self) -> None:
        first, last = self.spans[0][0], self.spans[-1][1]
        if len(self.spans) == WARM_UP or last - first > WARM_UP_SECONDS * 1e9:
            self._warm.set()


async def conduct(
    call: Callable[[], Awaitable[object]],
    *,
    contenders: Sequence[LoopContender],
    on_start: Callable[[], object],
    patience: Callable[[LoopContender], float] = lambda _contender: _END_WITHIN,
) -> object:
    """Await ``call()`` while the contenders (one at least) work in the same loop; its result.

    ``on_start`` is called when they have come to their pace, just before. After the call each has
    ``patience`` seconds to end the operation that it is in; then it is cancelled. Whatever happens,
    no task of the contenders is left.
    """
    tasks = [
        asyncio.create_task(contender.work(), name=contender.actor) for contender in contenders
    ]
    try:
        await _warmed(contenders)
        on_start()
        return await call()
    finally:
        for contender in contenders:
            contender.stop()
        # a pulse that was due while the loop stood still comes now, and tells for how long
        began = clock.monotonic()
        for contender, task in zip(contenders, tasks, strict=True):
            seconds = _END_WITHIN if contender.name == PULSE else patience(contender)
            await asyncio.wait([task], timeout=max(began + seconds - clock.monotonic(), 0))
            if not task.done():
                waited = clock.monotonic() - began
                contender.note_unfinished(waited, awaited_in(task.get_coro()))
        deaf = await _cancelled(task for task in tasks if not task.done())
        passing: list[BaseException] = []
        for contender, task in zip(contenders, tasks, strict=True):
            if task in deaf:
                contender.note_deaf()
            elif task.done() and not task.cancelled():
                error = task.exception()
                passing += [error] if error is not None and passes_through(error) else []
        if passing:
            raise passing[0]


async def clear() -> None:
    """Cancel whatever is left in the loop of a call that was cut off."""
    await _cancelled(asyncio.all_tasks() - {asyncio.current_task()})


def close(runner: asyncio.Runner) -> None:
    """Close an event loop, also one with tasks that do not end when they are cancelled.

    :raises UsageError: names such tasks; they have been ended by force, or abandoned.
    """
    deaf: list[str] = []

    async def end_tasks() -> None:
        left = await _cancelled(asyncio.all_tasks() - {asyncio.current_task()})
        deaf.extend(left.values())

    try:
        if asyncio.all_tasks(runner.get_loop()):
            runner.run(end_tasks())
    finally:
        runner.close()
    if deaf:
        raise UsageError(
            f"the event loop cannot be closed: {'; '.join(deaf)} does not end when it is cancelled;"
            " let CancelledError through"
        )


async def _warmed(contenders: Sequence[LoopContender]) -> None:
    """Wait until all have a pace of their own; one that is slow is taken as it is."""
    deadline = clock.monotonic() + _WARM_WITHIN
    while any(contender.is_cold for contender in contenders):
        if clock.monotonic() > deadline:
            return
        await asyncio.sleep(_BETWEEN_LOOKS_FOR_PACE)


async def _cancelled(
    tasks: Iterable[asyncio.Task[object] | None],
) -> dict[asyncio.Task[object], str]:
    """Cancel these, and wait until they have ended.

    Returns those that did not, by the words for each; they were ended by force, or abandoned.
    """
    left = [task for task in tasks if task is not None]
    for task in left:
        task.cancel()
    if not left:
        return {}
    _, pending = await asyncio.wait(left, timeout=_END_WITHIN)
    deaf = {task: _told(task) for task in left if task in pending}
    for task in deaf:
        await _end_by_force(task)
    return deaf


def _told(task: asyncio.Task[object]) -> str:
    name = task.get_name().removeprefix("gracekill:")
    stands_in = awaited_in(task.get_coro())
    return f"the task {name}" + (f" (in {stands_in[-1]})" if stands_in else "")


async def _end_by_force(task: asyncio.Task[object]) -> None:
    """End a task that catches CancelledError, by an exception that it can hardly know.

    One that catches everything is abandoned: the loop forgets it, so that it can be closed.
    """
    coroutine = cast("Coroutine[object, object, object]", task.get_coro())
    for _ in range(_FORCED):
        try:
            coroutine.throw(CutOff())
        except BaseException:  # noqa: BLE001 - whatever it raises, it has ended
            break
    # its end is seen when it is woken up: the coroutine is finished, and the task with it
    task.cancel()
    await asyncio.wait([task], timeout=_END_WITHIN)
    if task.done():
        with suppress(BaseException):
            task.exception()
        return
    _ABANDONED.append(task)
    vars(asyncio.tasks)["_unregister_task"](task)
    with suppress(AttributeError):
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - as asyncio.gather does


def pulse(history: History) -> LoopContender:
    """The contender that shows whether the loop itself goes on."""

    async def beat() -> None:
        await asyncio.sleep(THINK)

    # without a pause of its own: a loop that stands still meets it in a beat
    return LoopContender(PULSE, beat, history, think=0)


@contextmanager
def watched(contenders: Sequence[LoopContender]) -> Iterator[None]:
    """Look at where the loop of the calling thread stands, whenever its pulse is late."""
    ident = threading.get_ident()
    over = threading.Event()
    beats = [contender for contender in contenders if contender.name == PULSE]

    def look() -> None:
        longest, seen = int(_LATE * 1e9), 0
        while not over.wait(_BETWEEN_LOOKS):
            for beat in beats:
                since = beat.current or clock.monotonic_ns()
                late = clock.monotonic_ns() - since
                if late <= longest:
                    continue
                longest = late
                if since != seen:  # once: in the end it may stand where the harness looks around
                    seen = since
                    beat.stood_in = current_stack(ident)

    thread = threading.Thread(target=look, name="gracekill:pulse-1", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_END_WITHIN)
