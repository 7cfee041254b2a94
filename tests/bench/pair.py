"""acquire() and release() of a lock that nobody else wants, per pair, in runs of 5,000; the history
grows meanwhile as in a trial. "below another": the same while the thread holds another traced
lock, so that the order of the two is looked up; no promise.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from pytest_gracekill.witness.locks import LockTracer

from .figure import Figure, Promise

if TYPE_CHECKING:
    from pathlib import Path

    from .contenders import Lock

PAIRS = 5000


def measure(rounds: int, folder: Path) -> list[Figure]:
    """Traced, below another, and plain, in turn."""
    traced, below, plain = [], [], []
    for _ in range(rounds):
        tracer = LockTracer()
        traced.append(_per_pair(tracer.lock("domain vm")))
        with tracer.lock("driver"):
            below.append(_per_pair(tracer.lock("domain other")))
        plain.append(_per_pair(threading.Lock()))
    return [
        _figure("traced lock", traced, Promise(limit=3e-6)),
        _figure("traced lock, below another", below),
        _figure("threading.Lock", plain),
    ]


def _figure(name: str, samples: list[float], promise: Promise | None = None) -> Figure:
    return Figure(name=name, samples=tuple(samples), unit="us", scale=1e6, promise=promise)


def _per_pair(lock: Lock) -> float:
    acquire, release = lock.acquire, lock.release
    started = time.perf_counter()
    for _ in range(PAIRS):
        acquire()
        release()
    return (time.perf_counter() - started) / PAIRS
