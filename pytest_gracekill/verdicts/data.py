"""Are the writes that the guest saw acknowledged on the disk?

The audit compares the disk file with the journal, block by block. It sees what SIGKILL takes: the
VM's own memory. It does not see power loss: what was written stays in the kernel's page cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.child.disk import ranges
from pytest_gracekill.report import NotJudged, Verdict
from pytest_gracekill.verdicts.evidence import TOLERANCE

if TYPE_CHECKING:
    from pytest_gracekill.verdicts.evidence import Evidence

_WORDS = (
    ("lost", "DATA LOST"),
    ("torn", "TORN"),
    ("stale", "STALE"),
    ("phantom", "PHANTOM"),
)


def judge(evidence: Evidence) -> Verdict | NotJudged:
    """Broken when an acknowledged block is missing, half written, old, or was never written so."""
    if evidence.ended_by_trial:
        return NotJudged(name="data", reason="the VM still ran at the end, and the trial ended it")
    if evidence.dead_before:
        return NotJudged(name="data", reason="the VM was dead before the routine was called")
    if evidence.promise.nowait and evidence.promise.force:
        return NotJudged(name="data", reason="FORCE|NOWAIT asks for SIGKILL at once")
    audit = evidence.audit
    blocks = evidence.knobs.blocks
    damage = {
        "lost": audit.lost,
        "torn": audit.torn,
        "stale": audit.stale,
        "phantom": audit.phantom,
    }
    found = [(word, damage[kind]) for kind, word in _WORDS if damage[kind]]
    if not found and audit.problem is not None:
        return Verdict(name="data", status="unknown", word="unknown", evidence=audit.problem)
    if not found:
        return Verdict(
            name="data",
            status="ok",
            word="ok",
            evidence=f"{len(audit.acknowledged)} of {blocks} blocks acknowledged, all on disk",
        )
    if _starved(evidence):
        given = f"was given {evidence.grace_given:.2f} s"
        return Verdict(
            name="data",
            status="unknown",
            word="unknown",
            evidence=f"the fake needs {evidence.knobs.flush_total:.2f} s and {given}, and was still"
            f" behind: the machine was too busy; lost: {ranges(audit.lost)}",
        )
    word, numbers = found[0]
    return Verdict(
        name="data",
        status="broken",
        word=word,
        also=tuple(f"{other} (blocks {ranges(hit)})" for other, hit in found[1:]),
        summary=f"({len(numbers)} of {blocks} blocks: {ranges(numbers)})",
        evidence=_evidence(evidence, word, numbers),
    )


def _starved(evidence: Evidence) -> bool:
    """The flush got the time that it needs and more, undisturbed: then the loss is the machine's."""
    given = evidence.grace_given
    undisturbed = evidence.knobs.on_second_term == "ignore" and evidence.knobs.ends_by_itself
    return undisturbed and given is not None and given > evidence.knobs.flush_total + TOLERANCE


def _evidence(evidence: Evidence, word: str, numbers: list[int]) -> str:
    what = {
        "DATA LOST": "acknowledged, never on disk",
        "TORN": "half written",
        "STALE": "on disk in an older generation than was acknowledged",
        "PHANTOM": "on disk, but never written so by the guest",
    }[word]
    text = f"blocks {ranges(numbers)} {what}"
    if evidence.audit.problem is not None:
        return f"{text}; {evidence.audit.problem}"
    last = evidence.last_durable
    if last is None:
        return f"{text}; nothing was flushed"
    return f"{text}; last durable: {last[0]} at {evidence.stamp(last[1])}"
