"""Schedules per second for the seed's routine; and of the same program, beside frontrun.

The program is the wait of 2012 over plain locks, with a second thread that wakes up at the same
instant and takes the locks in their order: the routine takes them again in the wrong one. There is
a deadlock in it. Both engines get the same time; frontrun is the extra ``bench``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from pytest_gracekill import LIBVIRT_0_9_11, KillFlags, KillPolicy, process_kill, settings, trial
from pytest_gracekill.explore.kill_scenario import KillScenario
from pytest_gracekill.explore.search import Search
from pytest_gracekill.explore.threads_scenario import ThreadsScenario

from .figure import Figure, Promise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.explore.run import Clock
    from pytest_gracekill.explore.scenario import Scenario

#: Wall seconds for one exploration.
SECONDS = 3.0


def measure(rounds: int, folder: Path) -> Iterator[Figure]:
    """Measure a tenth of the rounds: each takes seconds."""
    times = max(rounds // 10, 1)
    yield from _seeds_routine(times)
    for ours, its in (("jump", "virtual"), ("explore", "explored")):
        yield _rate_of_ours(times, cast("Clock", ours))
        beside = _rates_of_frontrun(times, its)
        if beside is not None:
            yield beside


def _seeds_routine(times: int) -> Iterator[Figure]:
    for name, policy in (
        ("seed, 0.9.11", LIBVIRT_0_9_11),
        ("pidfd, both dropped", KillPolicy()),
    ):
        rates, seconds = [], []
        for _ in range(times):
            rate, took = _explored(_kill_scenario(policy), everything=True)
            rates.append(rate)
            seconds.append(took)
        yield Figure(
            name=f"{name}: rate",
            samples=tuple(rates),
            unit="/s",
            promise=Promise(limit=2000, side=">="),
        )
        yield Figure(
            name=f"{name}: to exhaustion",
            samples=tuple(seconds),
            unit="s",
            promise=Promise(limit=10),
        )


def _kill_scenario(policy: KillPolicy) -> Scenario:
    asked = {"flags": KillFlags.FORCE, "policy": policy}
    values = settings.layered(settings.from_outside({}, {}, {}), [], "", asked)
    plan = trial.plan(process_kill, values, source="the call", directory=Path, deadline=None)
    return KillScenario(plan, ("eof", "same", "other"), lambda _run: None)


def _explored(scenario: Scenario, *, everything: bool) -> tuple[float, float]:
    """Schedules a second, those included that were cut short; and the seconds."""
    search = Search(scenario, preemptions=2, seconds=10.0, seed=0, everything=everything)
    began = time.perf_counter()
    result = search.explore(("jump", "explore"))
    took = time.perf_counter() - began
    return sum(c.schedules + c.pruned for c in result.coverage) / took, took


# -- the same program for both engines


def make_state() -> SimpleNamespace:
    return SimpleNamespace(driver=threading.Lock(), domain=threading.Lock())


def routine(state: SimpleNamespace) -> None:
    state.driver.acquire()
    state.domain.acquire()
    state.driver.release()
    for _ in range(5):
        time.sleep(0.2)
    state.driver.acquire()  # under the domain lock: the wrong order
    state.driver.release()
    state.domain.release()


def look_up(state: SimpleNamespace) -> None:
    time.sleep(1.0)
    with state.driver, state.domain:
        pass


def _rate_of_ours(times: int, clock: Clock) -> Figure:
    rates, found = [], set()
    for _ in range(times):
        bodies = [cast("Callable[[object], object]", body) for body in (routine, look_up)]
        scenario = ThreadsScenario(make_state, bodies, None, lambda _run: None)
        search = Search(scenario, preemptions=2, seconds=SECONDS, seed=0, everything=True)
        began = time.perf_counter()
        result = search.explore((clock,))
        run = sum(covered.schedules + covered.pruned for covered in result.coverage)
        rates.append(run / (time.perf_counter() - began))
        words = {f"{first.words[0][1]} (schedule {first.schedules})" for first in result.found}
        found.add(", ".join(sorted(words)) or "nothing")
    name = f"ours, clock {clock}: {' or '.join(sorted(found))}"
    return Figure(name=name, samples=tuple(rates), unit="/s")


def _rates_of_frontrun(times: int, clock: str) -> Figure | None:
    """In a process of its own, which its command prepares."""
    command = shutil.which("frontrun")
    if command is None:
        return None
    rates, found = [], set()
    for _ in range(times):
        done = subprocess.run(
            [command, sys.executable, "-m", "bench.frontrun_beside", clock, str(SECONDS)],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        rate, says = json.loads(done.stdout.splitlines()[-1])
        rates.append(rate)
        found.add(says)
    name = f"frontrun, clock {clock}: {' or '.join(sorted(found))}"
    return Figure(name=name, samples=tuple(rates), unit="/s")
