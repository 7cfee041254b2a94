"""``time`` for tasks: the virtual clock, and sleeping on it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pytest_gracekill.explore.run import never
from pytest_gracekill.explore.tasks import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.explore.tasks import Task


def sleep_of(task: Task, seconds: float) -> None:
    """Sleep in virtual time; for 0 seconds it is only a step at which others may go on."""
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    run = task.run
    if seconds == 0:
        run.perform(task, "sleeps", "0 s", 0)
    else:
        run.wait(task, "sleeps", f"{seconds:.9g} s" if run.recorded else "", 0, never, seconds)


def replacements() -> Iterator[tuple[object, object]]:
    """Pairs of a function and what stands in for it: in a task's thread only."""
    real_sleep = time.sleep

    def sleep(seconds: float, /) -> None:
        task = current()
        if task is None:
            real_sleep(seconds)
        else:
            sleep_of(task, seconds)

    yield real_sleep, sleep
    for function in (time.monotonic, time.time, time.perf_counter):
        yield function, seconds_of(function)
    for function_ns in (time.monotonic_ns, time.time_ns, time.perf_counter_ns):
        yield function_ns, _nanoseconds_of(function_ns)


def seconds_of(real: Callable[[], float]) -> Callable[[], float]:
    """The virtual clock for tasks, the real one for every other thread."""

    def clock() -> float:
        task = current()
        return real() if task is None else task.run.read_clock(task) / 1e9

    return clock


def _nanoseconds_of(real: Callable[[], int]) -> Callable[[], int]:
    def clock() -> int:
        task = current()
        return real() if task is None else task.run.read_clock(task)

    return clock
