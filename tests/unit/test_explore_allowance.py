"""The time of a search is CPU time: what others take of the machine is not taken from it."""

from __future__ import annotations

import threading

import pytest

from pytest_gracekill.explore import allowance
from pytest_gracekill.explore.allowance import WALL, Allowance, cpu


class Machine:
    """Clocks that are set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.used = self.now = 100.0
        monkeypatch.setattr(allowance, "cpu", lambda: self.used)
        monkeypatch.setattr(allowance, "_monotonic", lambda: self.now)

    def passes(self, wall: float, used: float) -> None:
        self.now += wall
        self.used += used


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_cpu_time_is_counted(machine: Machine) -> None:
    has = Allowance(10)
    machine.passes(wall=30, used=4)
    assert has.left() == pytest.approx(6)
    assert has.left(until=machine.used + 1) == pytest.approx(1)
    machine.passes(wall=6, used=6)
    assert has.left() <= 0
    assert has.over() == "its 10 s were over (CPU time)"


def test_wall_time_has_a_limit(machine: Machine) -> None:
    has = Allowance(10)
    machine.passes(wall=10 * WALL - 1, used=3)
    assert has.left() == pytest.approx(1)
    machine.passes(wall=1, used=0.25)
    assert has.left(until=machine.used + 1) <= 0
    assert has.over() == "its 50 s were over (wall time; it could compute for 3.25 s of 10 s)"


@pytest.mark.parametrize(("wall", "limit"), [(8.0, 8.0), (1000.0, 10.0 * WALL)])
def test_the_test_may_have_less(machine: Machine, wall: float, limit: float) -> None:
    has = Allowance(10, wall)
    machine.passes(wall=limit, used=2)
    assert has.left() <= 0
    assert has.over().startswith(f"its {limit:g} s were over (wall time; ")


def test_a_wait_uses_none() -> None:
    before = cpu()
    threading.Event().wait(0.3)
    waited = cpu() - before
    sum(range(5_000_000))
    assert cpu() - before > 2 * waited
