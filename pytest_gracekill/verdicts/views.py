"""What holds for each caller of the routine: the worst that was concluded for one of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_gracekill.report import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gracekill.report import NotJudged
    from pytest_gracekill.verdicts.evidence import Evidence


def worst(
    evidence: Evidence, judge: Callable[[Evidence], Verdict | NotJudged]
) -> Verdict | NotJudged:
    """Judge each caller's view; a broken one tells whose it is, the first's needs no name."""
    found = [(view, judge(view)) for view in evidence.views]
    verdicts = [(view, verdict) for view, verdict in found if isinstance(verdict, Verdict)]
    for status in ("broken", "unknown"):
        for view, verdict in verdicts:
            if verdict.status == status:
                return replace(verdict, evidence=f"{view.caller}{verdict.evidence}")
    if not verdicts:
        return found[0][1]
    if len(verdicts) == 1:
        return verdicts[0][1]
    if len({verdict.evidence for _, verdict in verdicts}) == 1:
        return replace(
            verdicts[0][1],
            evidence=f"each of {len(verdicts)} callers: {verdicts[0][1].evidence}",
        )
    told = "; ".join(f"{view.caller}{verdict.evidence}" for view, verdict in verdicts)
    return replace(verdicts[0][1], evidence=told)
