"""One trial or exploration at a time in a process; a second one is a usage error."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill import UsageError
from pytest_gracekill.alone import alone

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from pytest_gracekill.fixtures import Judge

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)


def stop(popen: subprocess.Popen[bytes]) -> None:
    popen.terminate()
    popen.wait()


def trial(gracekill: Judge) -> None:
    gracekill(stop, flush_time=0.1, contenders=0).check()


def exploration(gracekill: Judge) -> None:
    gracekill.explore_threads(set[int], lambda state: state.add(1)).check()


SECOND = pytest.mark.parametrize("second", [trial, exploration])


@SECOND
def test_within_a_routine(gracekill: Judge, second: Callable[[Judge], None]) -> None:
    refused = []

    def routine(popen: subprocess.Popen[bytes]) -> None:
        with pytest.raises(UsageError, match="cannot begin while another one runs") as caught:
            second(gracekill)
        refused.append(str(caught.value))
        stop(popen)

    gracekill(routine, flush_time=0.1, contenders=0).check()
    assert "another one runs: the trial of routine, in thread MainThread" in refused[0]
    # the first is over, and no trial is refused for it any more
    second(gracekill)


def test_a_routine_that_lets_it_out(gracekill: Judge) -> None:
    with pytest.raises(UsageError, match="cannot begin while another one runs"):
        gracekill(lambda pid: trial(gracekill), flush_time=0.1, contenders=0)  # noqa: ARG005
    trial(gracekill)


@SECOND
def test_beside_a_trial(gracekill: Judge, second: Callable[[Judge], None]) -> None:
    refused = []

    def beside() -> None:
        try:
            second(gracekill)
        except UsageError as error:
            refused.append(error.what)

    def routine(popen: subprocess.Popen[bytes]) -> None:
        thread = threading.Thread(target=beside)
        thread.start()
        thread.join()
        stop(popen)

    gracekill(routine, flush_time=0.1, contenders=0).check()
    assert len(refused) == 1


@SECOND
@pytest.mark.parametrize("where", ["setup", "body"])
def test_within_an_exploration(
    gracekill: Judge, second: Callable[[Judge], None], where: str
) -> None:
    def here(place: str) -> None:
        if place == where:
            second(gracekill)

    with pytest.raises(UsageError, match="another one runs: the exploration of"):
        gracekill.explore_threads(lambda: here("setup"), lambda _: here("body"))
    second(gracekill)


def test_of_many_that_begin_at_once_one_begins() -> None:
    everybody, told = threading.Barrier(8), []

    def begin() -> None:
        everybody.wait()
        try:
            with alone("this"):
                told.append("began")
                everybody.wait()
        except UsageError:
            told.append("refused")
            everybody.wait()

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["began"] + ["refused"] * 7


def test_one_that_raises_is_over() -> None:
    with pytest.raises(LookupError), alone("this"):
        raise LookupError
    with alone("that"):
        pass
