"""Each of two (three) threads holds one lock and waits for the next one's; the last acquire closes
the cycle. From right before this acquire to DeadlockDetected in the thread that made it. "user's
contenders": the same of two contenders of a trial, over locks that were handed in.
"""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

from pytest_gracekill.witness.adopted import adopted
from pytest_gracekill.witness.contenders import Contender, stop_all
from pytest_gracekill.witness.locks import Deadlock, DeadlockDetected, LockTracer

from .figure import Figure, Promise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_gracekill.witness.locks import TracedLock

DEADLINE = 10.0


def measure(rounds: int, folder: Path) -> list[Figure]:
    """Cycles of two and of three threads, in turn."""
    two, three, users = [], [], []
    for _ in range(rounds):
        two.append(_close_a_cycle(2))
        three.append(_close_a_cycle(3))
        users.append(_contenders())
    return [
        _figure("user's contenders", users),
        _figure("two threads, two locks", two),
        _figure("three threads, three locks", three),
    ]


def _figure(name: str, samples: list[float]) -> Figure:
    return Figure(
        name=name, samples=tuple(samples), unit="ms", scale=1e3, promise=Promise(limit=0.1)
    )


def _close_a_cycle(threads: int) -> float:
    tracer = LockTracer()
    locks = [tracer.lock(f"lock {at}") for at in range(threads)]
    others = [
        threading.Thread(target=_hold_one_want_next, args=(locks[at], locks[at + 1]), daemon=True)
        for at in range(threads - 1)
    ]
    with locks[-1]:
        # from the last to the first: each finds its own lock free, the next one's taken
        for at in reversed(range(threads - 1)):
            others[at].start()
            _until_someone_waits_for(tracer, locks[at + 1])
        started = time.perf_counter()
        try:
            locks[0].acquire()
        except DeadlockDetected:
            elapsed = time.perf_counter() - started
        else:
            raise RuntimeError("the cycle was not found")
    for other in others:
        other.join(DEADLINE)
    return elapsed


def _contenders() -> float:
    tracer = LockTracer()
    owner = SimpleNamespace(a=threading.Lock(), b=threading.Lock())
    meet = threading.Barrier(2)

    def crossing(first: str, second: str) -> Callable[[], None]:
        def operation() -> None:
            with getattr(owner, first):
                meet.wait(DEADLINE)
                with getattr(owner, second):
                    pass
            raise StopIteration  # once is enough

        return operation

    with adopted([(owner, "a"), (owner, "b")], tracer):
        both = [
            Contender(name, crossing(*name), tracer.history, at_end=tracer.finish)
            for name in ("ab", "ba")
        ]
        for contender in both:
            contender.start()
        if stop_all(both, lambda _contender: DEADLINE):
            raise TimeoutError(f"the cycle was not broken up within {DEADLINE:g} s")
    (deadlock,) = tracer.deadlocks
    assert isinstance(deadlock, Deadlock)
    # the first step is the thread that closed the cycle
    return (deadlock.at_ns - deadlock.steps[0].waiting_since_ns) / 1e9


def _hold_one_want_next(mine: TracedLock, following: TracedLock) -> None:
    with mine, following:
        pass


def _until_someone_waits_for(tracer: LockTracer, lock: TracedLock) -> None:
    deadline = time.monotonic() + DEADLINE
    while not any(wait.lock == lock.name for wait in tracer.history.waits):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody waited for {lock.name} within {DEADLINE:g} s")
        time.sleep(0.001)  # there is no event for "it waits": that is what is being looked at
