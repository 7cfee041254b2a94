"""Contenders: threads that do the manager's other work while the routine runs.

Each repeats one operation with a pause of about 1 ms between two of them: busy loops starve each
other for up to 1.5 s on CPython even when nobody holds a lock, which is no finding.
"""

from __future__ import annotations

import inspect
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gracekill import clock
from pytest_gracekill.errors import UsageError
from pytest_gracekill.witness.locks import DeadlockDetected
from pytest_gracekill.witness.sites import current_stack
from pytest_gracekill.witness.standstill import overlap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_gracekill.witness.event_loop import LoopContender
    from pytest_gracekill.witness.history import Frame, History
    from pytest_gracekill.witness.locks import LockTracer

THINK = 0.001
#: Operations that every contender completes before the routine is called, so that it has a pace;
#: one that is slow is taken as it is after that many seconds.
WARM_UP = 20
WARM_UP_SECONDS = 1.0
#: Seconds for which the trial waits for the first operation of a contender before the call, and
#: after it. A contender that needs longer has no pace to compare with.
FIRST_OPERATION = 3.0
_FIRST_AFTER_CALL = 1.5
_AT_LEAST = 1.0

#: A latency counts from so many times the contender's own longest before the call.
WORSE = 5

_BETWEEN_LOOKS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """An operation that had not ended when the trial stopped waiting for it.

    ``until_ns``: when that was, ``waited`` seconds after the call. ``stands_in``: where it stood
    then, innermost call first. ``deaf``: a task that does not end when it is cancelled.
    """

    since_ns: int
    until_ns: int
    waited: float
    stands_in: tuple[Frame, ...]
    deaf: bool = False

    def __str__(self) -> str:
        where = f" in {self.stands_in[0]}" if self.stands_in else ""
        return f"not back {self.waited:.2f} s after the call{where}"


def longest_before(
    spans: Iterable[tuple[int, int]], called_ns: int, gaps: Sequence[tuple[int, int]] = ()
) -> float | None:
    """Return the longest operation that had ended by the call, in seconds; None without any.

    ``gaps``: when the whole process stood still, which does not count.
    """
    found = [
        ended - started - (overlap(gaps, started, ended) if gaps else 0)
        for started, ended in spans
        if ended <= called_ns
    ]
    return max(found) / 1e9 if found else None


def allowance(
    contender: Contender | LoopContender,
    called_ns: int,
    stall_limit: float,
    gaps: Sequence[tuple[int, int]] = (),
) -> float:
    """Seconds for which the trial waits for a contender to come back after the call.

    As long as it may take, and a second at least: one that comes back late on a busy machine did
    come back.
    """
    longest = longest_before(list(contender.spans), called_ns, gaps)
    if longest is None:
        return max(_FIRST_AFTER_CALL, stall_limit)
    limit = max(stall_limit, WORSE * longest)
    in_flight = contender.current
    if in_flight is not None and (called_ns - in_flight) / 1e9 > limit:
        limit = stall_limit  # it stood before the call: nothing is to be learnt
    return max(limit, _AT_LEAST)


class Contender:
    """One thread that repeats ``operation``; its spans are (start, end) in monotonic nanoseconds.

    ``current`` is the start of an operation that has not ended, ``error`` what ended the thread.
    ``by_latency``: what it waits for can't be traced, so that its latency has to tell. ``at_end``
    is called in the thread when it ends. ``at_raise`` is called in the thread when the operation
    has raised: the thread then stays until it is asked to stop, so that what it holds stays held.
    ``tracer``: takes note of an operation that goes on trying to acquire a lock. ``misuse``: what
    is wrong with an operation of which nothing is run.
    """

    def __init__(
        self,
        name: str,
        operation: Callable[[], object],
        history: History,
        *,
        by_latency: bool = False,
        at_end: Callable[[], None] = lambda: None,
        at_raise: Callable[[], None] | None = None,
        tracer: LockTracer | None = None,
    ) -> None:
        self.name = name
        self.by_latency = by_latency
        self.error: BaseException | None = None
        self.raised_ns: int | None = None
        self.misuse: UsageError | None = None
        self.stuck: Stuck | None = None
        self._tracer = tracer
        self._at_end = at_end
        self._at_raise = at_raise
        self.spans: list[tuple[int, int]] = []
        self.current: int | None = None
        self._operation = operation
        self._history = history
        self._stopping = threading.Event()
        self._warm = threading.Event()
        # a daemon: one that is stuck for good must not keep the interpreter from ending
        self._thread = threading.Thread(target=self._run, name=self.actor, daemon=True)

    def __repr__(self) -> str:
        return f"<Contender {self.name}: {self.operations} operations>"

    @property
    def actor(self) -> str:
        """The name of the thread, under which its locks are in the history."""
        return f"gracekill:{self.name}"

    @property
    def operations(self) -> int:
        """How many operations have been completed."""
        return len(self.spans) - (self.stuck is not None)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def wait_warm(self, deadline: float) -> bool:
        """Wait until it has a pace of its own or has ended; False for one that is taken as it is.

        That is one whose first operation takes long, or the deadline came first.
        """
        while not self._warm.wait(max(min(deadline - clock.monotonic(), _BETWEEN_LOOKS), 0.0)):
            now = clock.monotonic_ns()
            current = self.current
            slow = current is not None and not self.spans and now - current > FIRST_OPERATION * 1e9
            if slow or now >= deadline * 1e9:
                return False
        return True

    def ask_to_stop(self) -> None:
        """It ends after the operation that it is in."""
        self._stopping.set()

    def join(self, deadline: float) -> bool:
        """Wait for its end; False when the deadline came first, `stuck` then says where it stands.

        What the operation has cost so far counts among its spans.
        """
        if self._thread.ident is None:
            return True  # the trial has ended before it was started
        began = clock.monotonic()
        self._thread.join(max(deadline - began, 0.0))
        current = self.current
        if current is not None and self.alive and self.stuck is None:
            now = clock.monotonic_ns()
            self.spans.append((current, now))
            self.stuck = Stuck(
                since_ns=current,
                until_ns=now,
                waited=now / 1e9 - began,
                stands_in=current_stack(self._thread.ident),
            )
        return not self.alive

    def _run(self) -> None:
        spans, operation, stopping = self.spans, self._operation, self._stopping
        tracer = self._tracer
        trying = {} if tracer is None else tracer.operate()
        try:
            while not stopping.is_set():
                self.current = started = clock.monotonic_ns()
                result = operation()
                self.current = None
                spans.append((started, clock.monotonic_ns()))
                if trying and tracer is not None:
                    tracer.end_tries()
                if result is not None and len(spans) == 1 and self._is_unrun(result):
                    return
                if len(spans) == WARM_UP or spans[-1][1] - spans[0][0] > WARM_UP_SECONDS * 1e9:
                    self._warm.set()
                time.sleep(THINK)
        except DeadlockDetected as found:
            self.error = found
        except BaseException as error:  # noqa: BLE001 - whatever the user's callable raises is evidence
            self.current = None
            self.error, self.raised_ns = error, clock.monotonic_ns()
            self._history.record("raised", self.actor, error=described(error))
            self._warm.set()
            if self._at_raise is not None:
                self._at_raise()
                stopping.wait()
        finally:
            self._warm.set()
            self._at_end()

    def _is_unrun(self, result: object) -> bool:
        """Whether the operation has only made what should have been run: then it is of no use."""
        if inspect.isawaitable(result):
            what = "an awaitable that nobody awaits: hand in the coroutine function itself"
        elif inspect.isgenerator(result):
            what = "a generator of which nothing is run: hand in a plain function"
        else:
            return False
        if inspect.iscoroutine(result):
            result.close()
        self.misuse = UsageError(f"contend={self.name}: it returns {what}")
        return True


def described(error: BaseException) -> str:
    """Kind and text of an exception, also of one whose text raises."""
    kind = type(error).__name__
    try:
        text = str(error)
    except Exception as another:  # noqa: BLE001 - it is the user's code
        return f"{kind} (its text raises {type(another).__name__})"
    return f"{kind}: {text}" if text else kind


def stop_all(
    contenders: Sequence[Contender], seconds: Callable[[Contender], float]
) -> list[Contender]:
    """Stop all after the operation that each is in, and wait ``seconds`` of each for that.

    Returns those that are stuck in an operation.
    """
    for contender in contenders:
        contender.ask_to_stop()
    began = clock.monotonic()
    return [contender for contender in contenders if not contender.join(began + seconds(contender))]
