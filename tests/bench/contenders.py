"""Eight contenders of a trial, thinking 1 ms between two operations, for half a second a round.
An operation is the coupled look-up: driver lock, domain lock, driver lock let go, domain lock let
go; half of them look up one domain, the others another. Traced locks beside threading.Lock.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

from pytest_gracekill.witness.contenders import Contender, stop_all
from pytest_gracekill.witness.history import History
from pytest_gracekill.witness.locks import LockTracer

from .figure import Figure, Promise, ratio

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECONDS = 0.5
CONTENDERS = 8
DEADLINE = 10.0


class Lock(Protocol):
    def acquire(self) -> bool: ...
    def release(self) -> None: ...


def measure(rounds: int, folder: Path) -> list[Figure]:
    """Traced and plain in turn; which comes first changes from round to round."""
    per_second: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds):
        for traced in (True, False) if number % 2 else (False, True):
            per_second[traced].append(_operations(traced=traced) / SECONDS)
    traced_locks = _figure("with traced locks", per_second[True])
    plain_locks = _figure("with threading.Lock", per_second[False])
    share = ratio("traced / plain", traced_locks, plain_locks, Promise(limit=0.85, side=">="))
    return [traced_locks, plain_locks, share]


def _figure(name: str, samples: list[float]) -> Figure:
    return Figure(name=name, samples=tuple(samples), unit="k/s", scale=1e-3)


def _operations(*, traced: bool) -> int:
    history = History()
    tracer = LockTracer(history)

    def lock(name: str) -> Lock:
        return tracer.lock(name) if traced else threading.Lock()

    driver, domains = lock("driver"), [lock("domain vm"), lock("domain other")]
    contenders = [
        Contender(f"bench-{at}", _look_up(driver, domains[at % 2]), history)
        for at in range(CONTENDERS)
    ]
    for contender in contenders:
        contender.start()
    for contender in contenders:
        contender.wait_warm(time.monotonic() + DEADLINE)
    before = sum(contender.operations for contender in contenders)
    time.sleep(SECONDS)
    done = sum(contender.operations for contender in contenders) - before
    stuck = stop_all(contenders, lambda _contender: DEADLINE)
    if stuck:
        raise TimeoutError(f"did not stop within {DEADLINE:g} s: {stuck}")
    return done


def _look_up(driver: Lock, domain: Lock) -> Callable[[], None]:
    def operation() -> None:
        driver.acquire()
        domain.acquire()
        driver.release()
        domain.release()

    return operation
