"""What is still there after the routine reported success?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.counted import counted
from pytest_gracekill.report import NotJudged, Verdict

if TYPE_CHECKING:
    from pytest_gracekill.verdicts.evidence import Evidence


def judge(evidence: Evidence) -> Verdict | NotJudged:
    """Broken by descendants that live on, or by a disk lock or pid file that outlives the VM."""
    seen = evidence.leftovers
    if seen is None:
        return NotJudged(name="leftovers", reason="the routine did not report that the VM is gone")
    words: list[str] = []
    texts: list[str] = []
    if seen.orphans:
        words.append("ORPHANS")
        texts.append(
            f"{len(seen.orphans)} of {seen.started} processes alive:"
            f" {', '.join(str(orphan) for orphan in seen.orphans)}"
        )
    if seen.locked:
        words.append("LOCKED")
        texts.append(" and ".join(seen.locked))
    if words:
        return Verdict(
            name="leftovers",
            status="broken",
            word=words[0],
            also=tuple(words[1:]),
            evidence="; ".join(texts),
            advice="stop the VM's helper processes too, and wait until its disk is free",
        )
    started = counted(seen.started, "process", "processes")
    return Verdict(name="leftovers", status="ok", word="ok", evidence=f"{started} started, 0 alive")
