"""The time at a debugger's prompt does not use up a budget."""

from __future__ import annotations

import io
import pdb  # noqa: T100 - it is what is tested
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill.witness import debugger
from pytest_gracekill.witness.debugger import at_prompt
from pytest_gracekill.witness.watchdog import Watchdog

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from pytest_gracekill.fixtures import Judge

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)

#: Looks of the watchdog, several times as many as its budget has.
LOOKS = 12


class Debugger(pdb.Pdb):
    """One whose user thinks until ``go_on`` is set, and then lets the thread continue."""

    def __init__(self, go_on: threading.Event) -> None:
        super().__init__(stdin=io.StringIO("continue\n"), stdout=io.StringIO(), nosigint=True)
        self._go_on = go_on

    def preloop(self) -> None:
        assert self._go_on.wait(60)


def go_on_after_looks(go_on: threading.Event) -> tuple[Callable[[], None], list[bool]]:
    """A look for the watchdog that lets the prompt go on after some, and what the looks saw."""
    looks: list[bool] = []

    def look() -> None:
        looks.append(at_prompt())
        if looks.count(True) == LOOKS:
            go_on.set()

    return look, looks


def stop_at_prompt(go_on: threading.Event) -> None:
    before = sys.gettrace()
    Debugger(go_on).set_trace()
    assert at_prompt() is False
    sys.settrace(before)


def test_a_watchdog_waits() -> None:
    go_on = threading.Event()
    look, _ = go_on_after_looks(go_on)
    with Watchdog(0.2, lambda: None, look) as dog:
        stop_at_prompt(go_on)
        ended = True
    assert ended
    assert not dog.expired


def test_after_the_prompt_the_rest_of_the_budget_is_left() -> None:
    go_on = threading.Event()
    look, looks = go_on_after_looks(go_on)
    with Watchdog(0.2, lambda: None, look) as dog:
        stop_at_prompt(go_on)
        threading.Event().wait(60)
    assert dog.expired
    assert looks.count(True) >= LOOKS


@pytest.mark.parametrize("callers", [1, 2])
def test_a_routine_that_is_debugged_is_not_cut_off(
    gracekill: Judge, monkeypatch: pytest.MonkeyPatch, callers: int
) -> None:
    go_on, left = threading.Event(), debugger.Budget.left
    seen = []

    def counted(self: debugger.Budget) -> float:
        seen.append(at_prompt())
        if seen.count(True) == LOOKS:
            go_on.set()
        return left(self)

    monkeypatch.setattr(debugger.Budget, "left", counted)
    once = threading.Lock()

    def debugged(popen: subprocess.Popen[bytes]) -> None:
        popen.terminate()
        popen.wait()
        # the last one: the first may be over long before
        if callers == 1 or threading.current_thread() is not threading.main_thread():
            assert once.acquire(blocking=False)
            stop_at_prompt(go_on)

    report = gracekill(debugged, callers=callers, budget=0.5, flush_time=0.05, contenders=0)
    assert "HUNG" not in str(report)
    assert seen.count(True) >= LOOKS
    report.ignore()


def test_a_debugger_that_is_only_loaded_is_none() -> None:
    assert "pdb" in sys.modules
    assert not at_prompt()
