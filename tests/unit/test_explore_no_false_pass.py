"""What cannot be explored is an error or incomplete, and never a pass."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.fixtures import Judge

ELSEWHERE = {"a": {"b": {"c": threading.Event()}}}
LOCKS = {"a": {"b": {"c": {"d": threading.Lock()}}}}


class Account:
    one = threading.Lock()
    other = threading.Lock()


@functools.lru_cache
def lock_for(name: str) -> threading.Lock:
    return threading.Lock()


lock_for("made before")


def by_class(_state: object) -> None:
    with Account.one, Account.other:
        pass


def out_of_a_cache(_state: object) -> None:
    with lock_for("made before"):
        pass


def deep_in_a_dict(_state: object) -> None:
    with LOCKS["a"]["b"]["c"]["d"]:
        pass


@pytest.mark.parametrize("body", [by_class, out_of_a_cache, deep_in_a_dict])
def test_a_real_lock_is_an_error_however_it_is_reached(
    gracekill: Judge, body: Callable[[object], None]
) -> None:
    with pytest.raises(UsageError, match=r"made before the exploration|not simulated is used at"):
        gracekill.explore_threads(SimpleNamespace, body, body)


def test_a_lock_of_a_module_is_an_error(gracekill: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    home = ModuleType("home_of_one_lock")
    home.lock = threading.Lock()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "home_of_one_lock", home)
    monkeypatch.setattr(sys.modules[__name__], "home", home, raising=False)

    def body(_state: object) -> None:
        with globals()["home"].lock:
            pass

    with pytest.raises(UsageError, match="not simulated is used at"):
        gracekill.explore_threads(SimpleNamespace, body)


def waits_by_default(_state: object, sleep: Callable[[float], None] = time.sleep) -> None:
    sleep(0.2)


class Waiter:
    sleep = time.sleep

    def __init__(self) -> None:
        self.clock = time.monotonic

    def by_class(self, _state: object) -> None:
        Waiter.sleep(0.2)

    def by_object(self, _state: object) -> None:
        self.clock()


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (waits_by_default, "sleep"),
        (Waiter().by_class, "sleep"),
        (Waiter().by_object, "monotonic"),
        (partial(lambda wait, _state: wait(0.2), time.sleep), "sleep"),
    ],
    ids=["default", "class", "object", "partial"],
)
def test_a_real_function_is_an_error_however_it_is_reached(
    gracekill: Judge, body: Callable[[object], None], name: str
) -> None:
    with pytest.raises(UsageError, match=rf"the real {name}\(\) is called at .*false_pass\.py:"):
        gracekill.explore_threads(SimpleNamespace, body)


def test_a_real_kill_reaches_nobody(gracekill: Judge) -> None:
    came: list[int] = []

    def stop(pid: int, kill: Callable[[int, int], None] = os.kill) -> bool:
        with suppress(OSError):
            kill(os.getpid() if pid else 0, signal.SIGUSR1)
        return True

    handler = signal.signal(signal.SIGUSR1, lambda number, _frame: came.append(number))
    try:
        with pytest.raises(UsageError, match=r"the real kill\(\) is called at "):
            gracekill.explore(stop)
    finally:
        signal.signal(signal.SIGUSR1, handler)
    assert not came


OWN = threading.local()


def remembers(state: SimpleNamespace) -> None:
    state.found.append(getattr(OWN, "value", None))
    with state.lock:
        OWN.value = "mine"


def test_what_a_thread_has_for_itself_is_not_there_in_the_next_schedule(gracekill: Judge) -> None:
    def setup() -> SimpleNamespace:
        return SimpleNamespace(lock=threading.Lock(), found=[])

    OWN.value = "ours"
    found = gracekill.explore_threads(
        setup, remembers, remembers, check=lambda state: state.found == [None, None]
    )
    found.check()
    assert found.schedules > 10
    assert OWN.value == "ours"


class WithValues(threading.local):
    def __init__(self) -> None:
        self.value = 0


WITH_VALUES = WithValues()


def counts(_state: object) -> None:
    WITH_VALUES.value += 1


def test_what_cannot_be_made_anew_for_each_thread_is_an_error(gracekill: Judge) -> None:
    with pytest.raises(UsageError, match=r"WITH_VALUES is a WithValues, a threading\.local that "):
        gracekill.explore_threads(SimpleNamespace, counts)


def test_what_is_not_simulated_is_told_although_the_program_swallows_it(gracekill: Judge) -> None:
    def body(_state: object) -> None:
        try:
            ELSEWHERE["a"]["b"]["c"].wait()
        except Exception:  # noqa: BLE001 - what loops of workers do
            return

    with pytest.raises(UsageError, match="an Event that was made before"):
        gracekill.explore_threads(SimpleNamespace, body)


async def coroutine(_state: object) -> None:
    raise SystemError


def generator(_state: object) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("body", [coroutine, generator])
def test_a_body_of_which_nothing_would_run(
    gracekill: Judge, body: Callable[[object], object]
) -> None:
    with pytest.raises(UsageError, match="nothing of it would run"):
        gracekill.explore_threads(SimpleNamespace, body)
    with pytest.raises(UsageError, match="nothing of it would run"):
        gracekill.explore_threads(SimpleNamespace, by_class, check=body)


def test_a_process_is_not_started(gracekill: Judge) -> None:
    with pytest.raises(UsageError, match="cannot be started in an exploration"):
        gracekill.explore_threads(SimpleNamespace, lambda _: subprocess.run(["true"], check=True))


def test_what_is_made_in_the_setup_is_new_in_each_schedule(gracekill: Judge) -> None:
    def setup() -> SimpleNamespace:
        return SimpleNamespace(lock=threading.Lock(), own=WithValues(), found=[])

    def counts_its_own(state: SimpleNamespace) -> None:
        with state.lock:
            state.own.value += 1
            state.found.append(state.own.value)

    gracekill.explore_threads(
        setup, counts_its_own, counts_its_own, check=lambda state: state.found == [1, 1]
    ).check()


def test_an_event_loop_is_not_started(gracekill: Judge) -> None:
    def body(_state: object) -> None:
        with asyncio.Runner() as runner:
            runner.get_loop()

    with pytest.raises(UsageError, match="asyncio is not simulated in an exploration"):
        gracekill.explore_threads(SimpleNamespace, body)


def test_an_exploration_within_another(gracekill: Judge) -> None:
    def body(_state: object) -> None:
        gracekill.explore_threads(SimpleNamespace, lambda _: None)

    with pytest.raises(UsageError, match="another one runs: the exploration of"):
        gracekill.explore_threads(SimpleNamespace, body)


def test_a_failure_that_does_not_come_again_is_no_failure_and_no_pass(gracekill: Judge) -> None:
    times = []

    def body(_state: object) -> None:
        times.append(1)
        assert len(times) != 3

    found = gracekill.explore_threads(SimpleNamespace, body)
    assert found.status == "incomplete"
    assert "not deterministic" in found.limit


def test_a_lock_that_outlives_its_exploration_is_as_good_as_a_real_one(gracekill: Judge) -> None:
    kept: list[threading.Lock] = []

    def body(_state: object) -> None:
        kept.append(threading.Lock())
        with kept[-1]:
            time.sleep(0.1)

    gracekill.explore_threads(SimpleNamespace, body).check()
    with kept[0]:
        assert not kept[0].acquire(blocking=False)
    assert kept[0].acquire(timeout=1)
    kept[0].release()


def test_a_thread_that_exits_has_ended(gracekill: Judge) -> None:
    def exits(state: SimpleNamespace) -> None:
        with state.lock:
            sys.exit("it is over")

    def setup() -> SimpleNamespace:
        return SimpleNamespace(lock=threading.Lock())

    gracekill.explore_threads(setup, exits, exits).check()


def test_a_check_may_fail_as_pytest_has_it(gracekill: Judge) -> None:
    found = gracekill.explore_threads(
        SimpleNamespace, lambda _: None, check=lambda _: pytest.fail("wrong")
    )
    assert found.failure is not None
    assert "the check raised Failed: wrong" in found.failure.verdicts["outcome"].evidence
