"""What is concluded from a trial: one module per verdict, each a function of the evidence alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.legible import error_text
from pytest_gracekill.report import VERDICTS, NotJudged, Verdict
from pytest_gracekill.verdicts import (
    data,
    deadlock,
    escalation,
    identity,
    leftovers,
    locks,
    outcome,
    progress,
    promptness,
)
from pytest_gracekill.verdicts.moments import with_moments

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gracekill.verdicts.evidence import Evidence

JUDGES: dict[str, Callable[[Evidence], Verdict | NotJudged]] = {
    "data": data.judge,
    "escalation": escalation.judge,
    "outcome": outcome.judge,
    "promptness": promptness.judge,
    "deadlock": deadlock.judge,
    "locks": locks.judge,
    "progress": progress.judge,
    "identity": identity.judge,
    "leftovers": leftovers.judge,
}


def judge(evidence: Evidence) -> tuple[dict[str, Verdict], dict[str, str]]:
    """Every verdict by name, and what was not judged with the reason.

    A judge that crashed has concluded nothing: its verdict is ``unknown``, which fails the trial.
    """
    verdicts: dict[str, Verdict] = {}
    not_judged: dict[str, str] = {}
    for name in VERDICTS:
        try:
            found = JUDGES[name](evidence)
            if isinstance(found, Verdict):
                found = with_moments(found, evidence)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not read as ok
            found = Verdict(
                name=name,
                status="unknown",
                word="unknown",
                evidence=f"the check itself failed: {error_text(error)}",
            )
        if isinstance(found, Verdict):
            verdicts[name] = found
        else:
            not_judged[name] = found.reason
    return verdicts, not_judged
