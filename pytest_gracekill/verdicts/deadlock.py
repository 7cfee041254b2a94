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
    from pytest_gracekill.verdicts.evidence import Evidence


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
    advice = list(dict.fromkeys(found.advice for found in state.deadlocks))
    if state.cycles and ORDER not in advice:
        advice.append(ORDER)
    if ORDER in advice and evidence.promise.takes_driver:
        advice[advice.index(ORDER)] += ": unlock the domain first"
    if words:
        return Verdict(
            name="deadlock",
            status="broken",
            word=words[0],
            also=tuple(words[1:]),
            evidence="; ".join(texts),
            detail=tuple(detail),
            advice="; ".join(advice),
        )
    return Verdict(
        name="deadlock",
        status="ok",
        word="ok",
        evidence=f"{state.traced} locks, {state.acquisitions} acquisitions, "
        + ("0 order cycles" if state.order_is_judged else "none in this schedule"),
    )
