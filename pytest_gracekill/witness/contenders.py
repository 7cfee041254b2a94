"""Contenders: threads that do the manager's other work while the routine runs.

Each repeats one operation with a pause of about 1 ms between two of them: busy loops starve each
other for up to 1.5 s on CPython even when nobody holds a lock, which is no finding.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from pytest_gracekill import clock
from pytest_gracekill.witness.locks import DeadlockDetected

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_gracekill.witness.history import History

THINK = 0.001
#: Operations that every contender completes before the routine is called, so that it has a pace;
#: one that is slow is taken as it is after that many seconds.
WARM_UP = 20
WARM_UP_SECONDS = 1.0


class Contender:
    """One thread that repeats ``operation``; its spans are (start, end) in monotonic nanoseconds.

    ``current`` is the start of an operation that has not ended, ``error`` what ended the thread.
    ``by_latency``: what it waits for can't be traced, so that its latency has to tell. ``at_end``
    is called in the thread when it ends. ``at_raise`` is called in the thread when the operation
    has raised: the thread then stays until it is asked to stop, so that what it holds stays held.
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
    ) -> None:
        self.name = name
        self.by_latency = by_latency
        self.error: BaseException | None = None
        self.raised_ns: int | None = None
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
        return len(self.spans)

    @property
    def longest(self) -> float:
        """Seconds that its longest operation so far took."""
        return max((ended - started for started, ended in self.spans), default=0) / 1e9

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def wait_warm(self, deadline: float) -> bool:
        """Wait until it has a pace of its own or has ended; False when the deadline came first."""
        return self._warm.wait(max(deadline - clock.monotonic(), 0.0))

    def ask_to_stop(self) -> None:
        """It ends after the operation that it is in."""
        self._stopping.set()

    def join(self, deadline: float) -> bool:
        """Wait for its end; False when the deadline came first."""
        if self._thread.ident is None:
            return True  # the trial has ended before it was started
        self._thread.join(max(deadline - clock.monotonic(), 0.0))
        if self.current is not None and self.alive:
            # it stands in an operation: what it has suffered so far counts
            self.spans.append((self.current, clock.monotonic_ns()))
        return not self.alive

    def _run(self) -> None:
        spans, operation, stopping = self.spans, self._operation, self._stopping
        try:
            while not stopping.is_set():
                self.current = started = clock.monotonic_ns()
                operation()
                self.current = None
                spans.append((started, clock.monotonic_ns()))
                if len(spans) == WARM_UP or spans[-1][1] - spans[0][0] > WARM_UP_SECONDS * 1e9:
                    self._warm.set()
                time.sleep(THINK)
        except DeadlockDetected as found:
            self.error = found
        except BaseException as error:  # noqa: BLE001 - whatever the user's callable raises is evidence
            self.error, self.raised_ns = error, clock.monotonic_ns()
            self._history.record("raised", self.actor, error=f"{type(error).__name__}: {error}")
            self._warm.set()
            if self._at_raise is not None:
                self._at_raise()
                stopping.wait()
        finally:
            self._warm.set()
            self._at_end()


def stop_all(contenders: Sequence[Contender], deadline: float) -> list[Contender]:
    """Ask all to stop, wait until the deadline; returns those that are stuck in an operation."""
    for contender in contenders:
        contender.ask_to_stop()
    return [contender for contender in contenders if not contender.join(deadline)]
