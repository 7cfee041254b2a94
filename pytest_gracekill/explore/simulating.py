"""Everything that is simulated, for as long as an exploration runs, and for its tasks only.

Every other thread of the process gets the real thing from the same names. Names that a module has
bound by ``from ... import`` are replaced, too; one in a class, a closure or a default argument is
not found here, and an error when it is called.
"""

from __future__ import annotations

import gc
import os
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pytest_gracekill import clock
from pytest_gracekill.explore import (
    barriers,
    clocks,
    conditions,
    events,
    locks,
    processes,
    queues,
    semaphores,
    threads,
)
from pytest_gracekill.witness.bindings import replaced

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

#: Who keeps the real ones: our own package where it has bound them by name, and imports, whose
#: locks concern nobody, and which are needed in the first schedule only.
_REAL = ("pytest_gracekill", "_thread", "importlib", "_frozen_importlib")


@contextmanager
def simulated() -> Iterator[None]:
    """Locks, threads, time, signals and processes are simulated in the threads of tasks."""
    from pytest_gracekill.explore import objects  # noqa: PLC0415 - psutil costs 10 ms

    pairs = [
        *locks.replacements(),
        *threads.replacements(),
        *queues.replacements(),
        *clocks.replacements(),
        *processes.replacements(),
        *objects.replacements(),
    ]
    with ExitStack() as stack:
        stack.callback(threads.forget_in_executors)
        stack.enter_context(replaced(pairs, but=_REAL))
        # what the built-in routine reads; our own modules that need the real one have bound it
        stack.enter_context(_attribute(clock, "monotonic", clocks.seconds_of(clock.monotonic)))
        for kind, name, ours in (
            *conditions.methods(),
            *events.methods(),
            *semaphores.methods(),
            *barriers.methods(),
            *threads.methods(),
            *queues.methods(),
            *objects.methods(),
        ):
            stack.enter_context(_attribute(kind, name, ours))
        yield


@contextmanager
def _attribute(owner: type | ModuleType, name: str, ours: object) -> Iterator[None]:
    real = vars(owner)[name]
    setattr(owner, name, ours)
    try:
        yield
    finally:
        setattr(owner, name, real)


@contextmanager
def on_one_core() -> Iterator[None]:
    """Keep this thread, and those that it starts, on one core: the baton costs half as much."""
    if sys.platform != "linux":
        yield
        return
    allowed = os.sched_getaffinity(0)
    # not all workers of a suite on the same one
    os.sched_setaffinity(0, {sorted(allowed)[os.getpid() % len(allowed)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def without_garbage() -> Iterator[None]:
    """Let the collector run only when it is asked to.

    One that comes by itself calls finalizers, which may take locks, in the middle of whichever task
    happens to run.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
