"""Do threads wait for each other, or could they?

A closed cycle is found by the acquire that closes it, a lock that an ended thread has left behind
and a condition that nobody can notify by whoever waits for it. The order in which locks were taken
is found from every run, also from one in which nothing hung. Locks that were not traced are not
seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.report import NotJudged, Verdict
from pytest_gracekill.witness.wait_graph import ORDER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_gracekill.verdicts.evidence import Evidence
    from pytest_gracekill.witness.dead_end import AnyDeadlock


def dead_end(evidence: Evidence, found: AnyDeadlock) -> Verdict:
    """The verdict on a schedule in which nobody can go on, whether there are locks or none."""
    return Verdict(
        name="deadlock",
        status="broken",
        word="DEADLOCK",
        evidence=evidence.named(str(found)),
        detail=tuple(evidence.named(found.describe()).splitlines()),
        advice=_advice(evidence, (found,), order=False),
    )


def _advice(evidence: Evidence, deadlocks: Sequence[AnyDeadlock], *, order: bool) -> str:
    """What to change; ``order``: the locks were taken in orders that make a cycle."""
    advice = list(dict.fromkeys(found.advice for found in deadlocks))
    if order and ORDER not in advice:
        advice.append(ORDER)
    if ORDER in advice and evidence.promise.takes_driver:
        advice[advice.index(ORDER)] += ": unlock the domain first"
    return "; ".join(advice)


def judge(evidence: Evidence) -> Verdict | NotJudged:
    """Broken by a deadlock that happened, or by an order of locks that has a cycle."""
    state = evidence.lock_state
    if state is None:
        return NotJudged(name="deadlock", reason="no locks were handed in")
    if state.untouched:
        return Verdict(name="deadlock", status="unknown", word="unknown", evidence=state.untouched)
    words: list[str] = []
    texts: list[str] = []
    detail: list[str] = []
    if state.deadlocks:
        words.append("DEADLOCK")
        texts.append(evidence.named(f"{state.deadlocks[0]}; broken up"))
        for deadlock in state.deadlocks:
            detail += evidence.named(deadlock.describe()).splitlines()
    if state.cycles:
        words.append("LOCK ORDER")
        texts += [f"lock-order cycle: {cycle}" for cycle in state.cycles[:1]]
        for cycle in state.cycles:
            detail += evidence.named(cycle.describe()).splitlines()
    if words:
        return Verdict(
            name="deadlock",
            status="broken",
            word=words[0],
            also=tuple(words[1:]),
            evidence="; ".join(texts),
            detail=tuple(detail),
            advice=_advice(evidence, state.deadlocks, order=bool(state.cycles)),
        )
    return Verdict(
        name="deadlock",
        status="ok",
        word="ok",
        evidence=f"{state.traced} locks, {state.acquisitions} acquisitions, "
        + ("0 order cycles" if state.order_is_judged else "none in this schedule"),
    )
