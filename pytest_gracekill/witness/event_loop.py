"""Contenders in the event loop of an async routine, and the loop's own pulse.

What a coroutine waits for cannot be traced, so that its latency has to tell. The pulse is a task
that asks to be woken every millisecond: how late it is says for how long the loop stood still, as
it does behind a blocking call. Where it stands is looked at from a thread beside it.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_gracekill import clock
from pytest_gracekill.witness.contenders import THINK, WARM_UP, WARM_UP_SECONDS
from pytest_gracekill.witness.cut_off import CutOff
from pytest_gracekill.witness.sites import current_stack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence

    from pytest_gracekill.witness.history import Frame, History

#: The name under which the loop itself is judged.
PULSE = "the event loop"

#: A beat that is late by so many seconds is looked into, and how often that is done.
_LATE = 0.2
_BETWEEN_LOOKS = 0.05

#: Seconds that contenders have to come to a pace before the routine is called, and to end after it.
_WARM_WITHIN = 10.0
_END_WITHIN = 2.0


class LoopContender:
    """One task that repeats ``operation``; its spans are (start, end) in monotonic nanoseconds.

    To the verdicts it is what a `Contender` in a thread is. ``current`` is the start of the
    operation that it is in. ``stood_in``: where the loop stood, in the longest of its standstills.
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
        return len(self.spans)

    async def work(self) -> None:
        """Repeat the operation until `stop` or an error."""
        try:
            while not self._stopping:
                self.current = started = clock.monotonic_ns()
                await self._operation()
                self.current = None
                self.spans.append((started, clock.monotonic_ns()))
                self._look_whether_warm()
                if self._think:
                    await asyncio.sleep(self._think)
        except (CutOff, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError):
            raise  # not the operation's own
        except BaseException as error:  # noqa: BLE001 - whatever it raises is evidence
            self.error, self.raised_ns = error, clock.monotonic_ns()
            self.current = None
            self._history.record("raised", self.actor, error=f"{type(error).__name__}: {error}")
        finally:
            self._warm.set()

    async def warm(self) -> None:
        """Wait until it has a pace of its own, or has ended."""
        await self._warm.wait()

    def stop(self) -> None:
        """It ends after the operation that it is in; what that one has cost so far counts."""
        self._stopping = True

    def note_unfinished(self) -> None:
        """Put the operation that it is in on record, as far as it got."""
        if self.current is not None:
            self.spans.append((self.current, clock.monotonic_ns()))
            self.current = None

    def _look_whether_warm(self) -> None:
        first, last = self.spans[0][0], self.spans[-1][1]
        if len(self.spans) == WARM_UP or last - first > WARM_UP_SECONDS * 1e9:
            self._warm.set()


async def conduct(
    call: Callable[[], Awaitable[object]],
    *,
    contenders: Sequence[LoopContender],
    on_start: Callable[[], object],
) -> object:
    """Await ``call()`` while the contenders (one at least) work in the same loop; its result.

    ``on_start`` is called when they have come to their pace, just before. Whatever happens, no task
    of the contenders is left.
    """
    tasks = [
        asyncio.create_task(contender.work(), name=contender.actor) for contender in contenders
    ]
    try:
        # one that is slower than that is taken as it is
        await _within(_WARM_WITHIN, [contender.warm() for contender in contenders])
        on_start()
        return await call()
    finally:
        for contender in contenders:
            contender.stop()
        # a pulse that was due while the loop stood still comes now, and tells for how long
        _, pending = await asyncio.wait(tasks, timeout=_END_WITHIN)
        for contender in contenders:
            contender.note_unfinished()
        await _cancelled(pending)


async def clear() -> None:
    """Cancel whatever is left in the loop of a call that was cut off."""
    await _cancelled(asyncio.all_tasks() - {asyncio.current_task()})


async def _within(seconds: float, waits: Sequence[Coroutine[object, object, object]]) -> None:
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        _, pending = await asyncio.wait(tasks, timeout=seconds)
    except asyncio.CancelledError:
        await _cancelled(tasks)
        raise
    await _cancelled(pending)


async def _cancelled(tasks: Iterable[asyncio.Task[object] | None]) -> None:
    """Cancel these, and wait until they have ended; one that refuses to is left."""
    left = [task for task in tasks if task is not None]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=_END_WITHIN)


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
