"""Explored programs without a lock that end in a dead end, or in an exception of their own."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gracekill.fixtures import Judge

Popen = subprocess.Popen[bytes]


def _joins_who_waits() -> None:
    thread = threading.Thread(target=threading.Event().wait)
    thread.start()
    thread.join()


#: Waits that nobody can end, and what is said of each.
WAITS: dict[str, tuple[Callable[[], object], str]] = {
    "event": (lambda: threading.Event().wait(), "the routine waits for event, and no thread"),
    "queue": (lambda: queue.Queue[int]().get(), "the routine gets from queue, and no thread"),
    "simple queue": (lambda: queue.SimpleQueue().get(), "the routine gets from queue"),
    "barrier": (lambda: threading.Barrier(2).wait(), "the routine waits at barrier"),
    "semaphore": (lambda: threading.Semaphore(0).acquire(), "the routine acquires semaphore"),
    "future": (lambda: Future[int]().result(), "the condition condition, which nobody can"),
    "join": (_joins_who_waits, "the routine joins Thread-1 (wait), and no thread is left"),
}


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("asked", [True, False], ids=["asked", "never asked"])
def test_a_dead_end_without_a_lock_is_a_deadlock(
    gracekill: Judge, wait: str, *, asked: bool
) -> None:
    work, told = WAITS[wait]

    def stop(popen: Popen) -> None:
        if asked:
            popen.terminate()
        work()

    found = gracekill.explore(stop, flush_time=0.1)
    assert found.status == "failed"
    assert found.failure is not None
    verdict = found.failure.verdicts["deadlock"]
    assert verdict.word == "DEADLOCK"
    assert told in verdict.evidence
    assert "broken up" not in verdict.evidence, "in a simulation there is nothing to break up"
    assert not any(line.endswith(" at") for line in verdict.detail[-1:]), "an empty heading"


CHECKS: dict[str, tuple[Callable[[SimpleNamespace], object], str]] = {
    "waits": (lambda state: state.event.wait(), "RAISED"),
    "gets": (lambda state: state.queue.get(), "RAISED"),
    "sleeps": (lambda _state: time.sleep(3600), "ok in all"),
    # it changes what it looks at
    "takes": (lambda state: state.lock.acquire(blocking=False), "ok in all"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("check", CHECKS)
def test_a_check_runs_once_and_in_the_simulation(gracekill: Judge, check: str) -> None:
    work, told = CHECKS[check]
    calls: list[object] = []

    def state() -> SimpleNamespace:
        calls.clear()
        return SimpleNamespace(
            event=threading.Event(), queue=queue.Queue[int](), lock=threading.Lock()
        )

    def checked(of: SimpleNamespace) -> object:
        calls.append(of)
        return work(of)

    found = gracekill.explore_threads(state, lambda _state: None, check=checked)
    assert told in found.headline()
    assert len(calls) == 1, "once in each schedule"
    assert "Abandoned" not in str(found)


def test_a_typo_is_told_with_its_line(gracekill: Judge) -> None:
    def stop(pid: int) -> None:
        os.kil(pid, 15)  # type: ignore[attr-defined]

    for text in (
        str(gracekill(stop, flush_time=0.1)),
        str(gracekill.explore(stop, flush_time=0.1)),
    ):
        told = " ".join(text.split())
        assert "raised AttributeError: module 'os' has no attribute 'kil' at " in told
        assert "test_explored_dead_ends.py:" in told
        assert "in stop: `os.kil(pid, 15)" in told
