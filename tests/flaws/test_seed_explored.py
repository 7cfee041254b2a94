"""The seed's routine in every schedule: exhausted, and what libvirt's way of 2012 does is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_gracekill import KillFlags, KillPolicy
from pytest_gracekill.routine.callers import destroy

if TYPE_CHECKING:
    from pytest_gracekill.fixtures import Judge
    from pytest_gracekill.routine.policy import Wait

#: It takes seconds on a core of its own; what others do on the machine is none of our business.
SECONDS = 100.0
BESIDE = ("eof", "same", "other")


def _policy(wait: Wait, drop: str) -> KillPolicy:
    return KillPolicy(wait=wait, drop=drop, poll=1.0)  # type: ignore[arg-type]  # both are words


@pytest.mark.parametrize("wait", ["poll", "pidfd"])
def test_both_dropped_holds_in_every_schedule(gracekill: Judge, wait: Wait) -> None:
    found = gracekill.explore(
        destroy,
        flags=KillFlags.FORCE,
        policy=_policy(wait, "both"),
        flush_time=0.5,
        contenders=BESIDE,
        seconds=SECONDS,
    )
    found.check()
    assert "clock jump: every order of operations" in found.scope, found
    assert "clock explore: every order of operations" in found.scope, found


@pytest.mark.parametrize("wait", ["poll", "pidfd"])
def test_one_look_up_stalls_where_the_domain_stays_locked(gracekill: Judge, wait: Wait) -> None:
    found = gracekill.explore(
        destroy,
        flags=KillFlags.FORCE,
        policy=_policy(wait, "driver"),
        flush_time=1.5,
        contenders=("same",),
        all_failures=True,
        seconds=SECONDS,
    )
    assert "clock jump: every order of operations" in found.scope, found
    assert "clock explore: every order of operations" in found.scope, found
    words = {
        (failure.clock, name, verdict.word, *verdict.also)
        for failure in found.failures
        for name, verdict in failure.report.verdicts.items()
        if verdict.status == "broken"
    }
    assert words == {("jump", "locks", "HELD OVER WAIT"), ("jump", "progress", "STALLED")}, found
    assert found.failure is not None
    assert "domain vm" in found.failure.verdicts["locks"].evidence
    assert "driver" not in found.failure.verdicts["locks"].evidence.split("held", 1)[0]
