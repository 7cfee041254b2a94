"""Whatever goes wrong in a trial, at whichever point: everything that was replaced is as it was.

An exception is raised at each point in turn, in place of what is done there and after it.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gracekill import calls, lab, participants
from pytest_gracekill.child import handle
from pytest_gracekill.routine.session import Session
from pytest_gracekill.witness import adopted, contenders, locks, signals, watchdog
from pytest_gracekill.witness.history import History

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.fixtures import Judge

DEADLINE = 30.0


class Manager:
    """The user's: a lock of each kind, and a condition."""

    shared: Any = threading.Lock()

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.rlock = threading.RLock()
        self.changed = threading.Condition(self.lock)

    def status(self) -> None:
        with self.lock, self.rlock:
            pass

    def stop(self, pid: int) -> bool:
        with self.lock:
            os.kill(pid, signal.SIGTERM)
        while os.path.exists(f"/proc/{pid}"):  # noqa: PTH110 - as people write it
            with self.changed:
                self.changed.wait(0.005)
        return True


_PYTEST = "PYTEST_CURRENT_TEST"
MODULES = (threading, os, signal, time)


class State:
    """What the interpreter and the user's objects are at one moment."""

    def __init__(self, manager: Manager) -> None:
        self.modules = {module.__name__: dict(vars(module)) for module in MODULES}
        self.timeout = dict(vars(sys.modules["pytest_timeout"]))
        self.handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        self.wakeup = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(self.wakeup)
        self.collects = gc.isenabled()
        self.manager = dict(vars(manager))
        self.kind = dict(vars(Manager))
        self.condition = dict(vars(manager.changed))
        self.folder = os.getcwd()  # noqa: PTH109 - as it is, not as a Path
        self.environment = {key: os.environ[key] for key in os.environ if key != _PYTEST}

    def assert_same(self, other: State) -> None:
        for name, before in self.modules.items():
            after = other.modules[name]
            assert before.keys() == after.keys(), name
            # threading has a record of its threads, which changes in place
            changed = [key for key, value in before.items() if after[key] is not value]
            assert changed in ([], ["_dangling"]), name
        for name in ("timeout", "manager", "kind", "condition"):
            before, after = getattr(self, name), getattr(other, name)
            assert before.keys() == after.keys(), name
            assert [key for key in before if before[key] is not after[key]] == [], name
        for name in ("handlers", "mask", "wakeup", "collects", "folder", "environment"):
            assert getattr(self, name) == getattr(other, name), name


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "gracekill" in thread.name]


def free(lock: Any) -> bool:
    taken: list[bool] = []

    def look() -> None:
        taken.append(lock.acquire(blocking=False))
        if taken[0]:
            lock.release()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(DEADLINE)
    return taken == [True]


@contextmanager
def unchanged() -> Iterator[Manager]:
    """Have everything as it was at the end, the user's manager included."""
    manager = Manager()
    before = State(manager)
    yield manager
    State(manager).assert_same(before)
    for lock in (manager.lock, manager.rlock, Manager.shared):
        assert free(lock)
    deadline = time.monotonic() + DEADLINE
    while our_threads() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert our_threads() == []


class InjectedError(Exception):
    pass


#: Where something is done, by the names under which it is called.
POINTS: dict[str, tuple[Any, str]] = {
    "spawn": (participants, "spawn"),
    "take part": (participants.Participants, "__init__"),
    "enter": (participants.Participants, "enter"),
    "adopt": (adopted, "_bind"),
    "look whether it is free": (adopted, "_see_free"),
    "make a tracer": (locks.LockTracer, "__init__"),
    "record signals": (signals.SignalRecorder, "__enter__"),
    "start a contender": (contenders.Contender, "start"),
    "warm up": (contenders.Contender, "wait_warm"),
    "begin the session": (Session, "begin"),
    "note the end": (participants.Participants, "note_end"),
    "take the locks": (participants.Participants, "take"),
    "set the watchdog": (watchdog.Watchdog, "__enter__"),
    "call": (Session, "call"),
    "return": (calls.Callers, "_returned"),
    "look what is held": (participants.Participants, "held"),
    "perform": (calls.Callers, "perform"),
    "let go": (participants.Participants, "let_go"),
    "leftovers": (participants.Participants, "leftovers"),
    "lock state": (participants.Participants, "lock_state"),
    "order of locks": (locks.LockTracer, "order_cycles"),
    "holds": (History, "long_holds"),
    "audit": (handle.FakeQemu, "exit"),
    "judge": (lab, "judge"),
    "judgement": (lab, "Judgement"),
    "end the session": (Session, "end"),
}


def raises_instead(monkeypatch: pytest.MonkeyPatch, point: str, error: type[BaseException]) -> None:
    owner, name = POINTS[point]
    original: Callable[..., object] = getattr(owner, name)

    def fail(*args: object, **kwargs: object) -> object:
        if threading.current_thread() is not threading.main_thread():
            return original(*args, **kwargs)  # it is the trial that goes wrong
        raise error(point)

    monkeypatch.setattr(owner, name, property(fail) if name == "exit" else fail)


def raises_after(monkeypatch: pytest.MonkeyPatch, point: str, error: type[BaseException]) -> None:
    owner, name = POINTS[point]
    original: Callable[..., object] = getattr(owner, name)

    def fail(*args: object, **kwargs: object) -> object:
        if name == "spawn":
            original(*args, **kwargs).close()  # type: ignore[attr-defined] # nobody else has it
            raise error(point)
        result = original(*args, **kwargs)
        if threading.current_thread() is not threading.main_thread():
            return result
        raise error(point)

    monkeypatch.setattr(owner, name, fail)


#: What the trial ends without, if it fails after it was done: only its own leaving can undo it.
_WHEN_ENTERED = {"audit", "record signals", "set the watchdog"}


def judged(gracekill: Judge, manager: Manager) -> BaseException | None:
    try:
        gracekill(
            manager.stop,
            locks=[(manager, "lock"), (manager, "rlock"), (Manager, "shared")],
            contend=[manager.status],
            flush_time=0.05,
            blocks=4,
        ).ignore()
    except (InjectedError, KeyboardInterrupt, SystemExit) as error:
        return error
    return None


@pytest.mark.parametrize("error", [InjectedError, KeyboardInterrupt])
@pytest.mark.parametrize("point", POINTS)
def test_an_exception_in_place_of_it(
    gracekill: Judge, point: str, error: type[BaseException]
) -> None:
    with unchanged() as manager:
        with pytest.MonkeyPatch.context() as monkeypatch:
            raises_instead(monkeypatch, point, error)
            raised = judged(gracekill, manager)
        # what the routine itself raises is a way to report a failure
        assert raised is not None or point == "call"


@pytest.mark.parametrize("point", [point for point in POINTS if point not in _WHEN_ENTERED])
def test_an_exception_after_it(gracekill: Judge, point: str) -> None:
    with unchanged() as manager:
        with pytest.MonkeyPatch.context() as monkeypatch:
            raises_after(monkeypatch, point, InjectedError)
            raised = judged(gracekill, manager)
        assert raised is not None or point == "call"


def test_nothing_goes_wrong(gracekill: Judge) -> None:
    with unchanged() as manager:
        assert judged(gracekill, manager) is None
