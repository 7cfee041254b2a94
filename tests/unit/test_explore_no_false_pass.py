"""What cannot be explored is an error or incomplete, and never a pass."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
import time
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


def test_an_exploration_within_another(gracekill: Judge) -> None:
    def body(_state: object) -> None:
        gracekill.explore_threads(SimpleNamespace, lambda _: None)

    with pytest.raises(UsageError, match="another exploration runs in this process"):
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


def test_a_check_may_fail_as_pytest_has_it(gracekill: Judge) -> None:
    found = gracekill.explore_threads(
        SimpleNamespace, lambda _: None, check=lambda _: pytest.fail("wrong")
    )
    assert found.failure is not None
    assert "the check raised Failed: wrong" in found.failure.verdicts["outcome"].evidence
