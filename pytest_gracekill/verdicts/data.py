"""Are the writes that the guest saw acknowledged on the disk?

The audit compares the disk file with the journal, block by block. It sees what SIGKILL takes: the
VM's own memory. It does not see power loss: what was written stays in the kernel's page cache.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_gracekill.child.disk import ranges
from pytest_gracekill.report import NotJudged, Verdict
from pytest_gracekill.verdicts.disturbed import unknown
from pytest_gracekill.verdicts.escalation import unheard_text
from pytest_gracekill.verdicts.evidence import too_busy
from pytest_gracekill.verdicts.requests import CURES, deadly, unheard

if TYPE_CHECKING:
    from pytest_gracekill.data.disturbances import Cause
    from pytest_gracekill.verdicts.evidence import Evidence

_WORDS = (
    ("lost", "DATA LOST"),
    ("torn", "TORN"),
    ("stale", "STALE"),
    ("phantom", "PHANTOM"),
)


#: SIGSTOP and SIGTSTP: a VM that was stopped does not flush, and that is not the machine's doing.
_FREEZES = (19, 20)


def judge(evidence: Evidence) -> Verdict | NotJudged:
    """Broken when an acknowledged block is missing, half written, old, or was never written so."""
    reason = _not_judged(evidence)
    if reason is not None:
        return NotJudged(name="data", reason=reason)
    audit = evidence.audit
    blocks = evidence.knobs.blocks
    damage = {
        "lost": audit.lost,
        "torn": audit.torn,
        "stale": audit.stale,
        "phantom": audit.phantom,
    }
    found = [(word, damage[kind]) for kind, word in _WORDS if damage[kind]]
    if audit.damaged is not None:
        found = _lost_all_the_same(evidence)
    undecided = _undecided(evidence, found)
    if undecided is not None:
        return undecided
    if not found:
        return Verdict(
            name="data",
            status="ok",
            word="ok",
            evidence=f"{len(audit.acknowledged)} of {blocks} blocks acknowledged, all on disk",
        )
    word, numbers = found[0]
    also = [f"{other} (blocks {ranges(hit)})" for other, hit in found[1:]]
    text, advice = _evidence(evidence, word, numbers), ""
    request = unheard(evidence) if word == "DATA LOST" else None
    if request is not None and request.unheard is not None:
        also.append("UNHEARD")
        text += f"; {unheard_text(request)}"
        advice = CURES[request.unheard.reason]
    elif word == "DATA LOST" and _was_frozen(evidence):
        text += "; the VM was stopped (SIGSTOP) meanwhile, and did not flush"
        advice = CURES["stopped"]
    return Verdict(
        name="data",
        status="broken",
        word=word,
        also=tuple(also),
        summary=f"({len(numbers)} of {blocks} blocks: {ranges(numbers)})",
        evidence=text,
        advice=advice,
    )


def _not_judged(evidence: Evidence) -> str | None:
    if evidence.ended_by_trial:
        return "the VM still ran at the end, and the trial ended it"
    if evidence.dead_before:
        return "the VM was dead before the routine was called"
    if evidence.promise.nowait and evidence.promise.force:
        return "FORCE|NOWAIT asks for SIGKILL at once"
    return None


def _lost_all_the_same(evidence: Evidence) -> list[tuple[str, list[int]]]:
    """What a VM that the routine killed cannot have written, on a disk that others have damaged."""
    killed, unwritten = deadly(evidence), evidence.audit.unwritten
    by_routine = killed is not None and killed.by_routine
    return [("DATA LOST", unwritten)] if by_routine and unwritten else []


def _undecided(evidence: Evidence, found: list[tuple[str, list[int]]]) -> Verdict | None:
    """The verdict where nothing can be said of the routine; None where something can."""
    audit, killed = evidence.audit, deadly(evidence)
    by_routine = killed is not None and killed.by_routine
    disturbed = unknown(evidence, "data", doubted=bool(found) and not by_routine)
    if disturbed is not None:
        at_hand = audit.damaged or (f"lost: {ranges(audit.lost)}" if audit.lost else "")
        text = "; ".join(filter(None, (disturbed.evidence, at_hand)))
        return replace(disturbed, evidence=text)
    if not found:
        problem = audit.damaged or audit.problem
        return None if problem is None else _unknown(problem, "outside")
    busy = _too_busy(evidence)
    return None if busy is None else _unknown(busy, "machine")


def _unknown(text: str, cause: Cause) -> Verdict:
    return Verdict(name="data", status="unknown", word="unknown", evidence=text, cause=cause)


def _was_frozen(evidence: Evidence) -> bool:
    """Whether the routine, or a process of it, stopped the VM: it does not flush then."""
    sent = any(s.signum in _FREEZES and s.reached_vm for s in evidence.signals)
    return sent or (bool(evidence.stopped) and bool(evidence.suspects.processes))


def _too_busy(evidence: Evidence) -> str | None:
    frozen = _was_frozen(evidence)
    asked_again = evidence.knobs.on_second_term != "ignore" and len(evidence.requests) > 1
    if frozen or asked_again or unheard(evidence) is not None or not evidence.knobs.ends_by_itself:
        return None
    busy = too_busy(evidence.knobs.flush_total, evidence.grace_given)
    return None if busy is None else f"{busy}; lost: {ranges(evidence.audit.lost)}"


def _evidence(evidence: Evidence, word: str, numbers: list[int]) -> str:
    what = {
        "DATA LOST": "acknowledged, never on disk",
        "TORN": "half written",
        "STALE": "on disk in an older generation than was acknowledged",
        "PHANTOM": "on disk, but never written so by the guest",
    }[word]
    text = f"blocks {ranges(numbers)} {what}"
    killed = deadly(evidence)
    if killed is not None and killed.sender == "thread":
        text += f"; {killed} by PR_SET_PDEATHSIG: {evidence.suspects.thread}, had forked the VM"
    if evidence.audit.problem is not None:
        return f"{text}; {evidence.audit.problem}"
    last = evidence.last_durable
    if last is None:
        return f"{text}; nothing was flushed"
    return f"{text}; last durable: {last[0]} at {evidence.stamp(last[1])}"
