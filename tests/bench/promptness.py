"""From the last line of the fake's journal (its own clock reading, right before os._exit) to
the moment after the routine's call. "A bare poll" is what nothing can beat: SIGTERM and poll()
on a pidfd, nothing else. The VM is reaped by somebody else, no contenders, both locks plain.
The seed's poll looks every 200 ms, so its exits are spread evenly over one such step.
"in a trial" has eight contenders on traced locks, and is no promise.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

from pytest_gracekill import LIBVIRT_0_9_11, Driver, KillFlags, KillPolicy, lab, process_kill, trial
from pytest_gracekill.child.handle import FakeQemu, spawn
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.settings import Value, from_outside

from .figure import Figure, Promise, ratio

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FLUSH = 0.1
STEP = 0.2


def measure(rounds: int, folder: Path) -> list[Figure]:
    """Every way of waiting in turn, each with a fake of its own."""
    policies = {
        'wait="pidfd"': KillPolicy(),
        'wait="poll"': KillPolicy(wait="poll"),
        "the seed's poll": LIBVIRT_0_9_11,
    }
    waits: dict[str, Callable[[FakeQemu], None]] = {"a bare pidfd poll": _bare_poll}
    waits |= {name: _process_kill(policy) for name, policy in policies.items()}
    lags: dict[str, list[float]] = {name: [] for name in (*waits, "in a trial")}
    for number in range(rounds):
        flush_time = FLUSH + STEP * number / rounds
        for name, wait in waits.items():
            where = folder / f"{number}-{len(name)}"
            lags[name].append(_lag(wait, Knobs(topology="reaped", flush_time=flush_time), where))
        lags["in a trial"].append(_lag_in_a_trial(flush_time, folder / f"{number}-trial"))
    pidfd = _figure('wait="pidfd"', lags, Promise(limit=0.001))
    bare = _figure("a bare pidfd poll", lags)
    return [
        pidfd,
        bare,
        ratio('wait="pidfd" / bare poll', pidfd, bare, Promise(limit=2.0)),
        _figure('wait="poll"', lags),
        _figure("the seed's poll", lags),
        _figure("in a trial", lags),
    ]


def _figure(name: str, lags: dict[str, list[float]], promise: Promise | None = None) -> Figure:
    return Figure(name=name, samples=tuple(lags[name]), unit="ms", scale=1e3, promise=promise)


def _lag(wait: Callable[[FakeQemu], None], knobs: Knobs, where: Path) -> float:
    fake = spawn(knobs, where)
    try:
        wait(fake)
        returned_ns = time.monotonic_ns()
        last = fake.journal.last("exit")
        if last is None:
            raise TimeoutError(f"the fake's journal has no exit line: {fake}")
        return (returned_ns - last.at_ns) / 1e9
    finally:
        fake.close()


def _bare_poll(fake: FakeQemu) -> None:
    pidfd = os.pidfd_open(fake.pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    poll.poll(15_000)
    os.close(pidfd)


def _process_kill(policy: KillPolicy) -> Callable[[FakeQemu], None]:
    def wait(fake: FakeQemu) -> None:
        driver = Driver()
        domain = driver.define("vm", fake)
        domain.ref()
        with driver.lock, domain.lock:
            process_kill(driver, domain, KillFlags.FORCE, policy=policy)

    return wait


def _lag_in_a_trial(flush_time: float, where: Path) -> float:
    values = from_outside({}, {}, {}) | {
        "flush_time": Value(value=flush_time, source="bench"),
        "flags": Value(value=KillFlags.FORCE, source="bench"),
    }
    report = lab.run(
        trial.plan(process_kill, values, source="bench", directory=lambda: where, deadline=None)
    )
    report.check("data", "outcome")
    at = {event.kind: event.at_ns for event in report.history.events()}
    return (at["return"] - at["exit"]) / 1e9
