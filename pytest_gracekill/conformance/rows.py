"""A row of the suite's table: a case, what came of it, and one line of evidence.

Rows are plain dictionaries of texts: with pytest-xdist they travel from the workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from pytest_gracekill.data.words import severity
from pytest_gracekill.legible import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_gracekill.conformance.cases import Case
    from pytest_gracekill.judgement import Judgement
    from pytest_gracekill.report import Verdict

#: The name under which a report of pytest's has the row of its case.
ATTRIBUTE = "gracekill_case"


class Row(TypedDict):
    """``verdict`` is ``ok``, ``skipped``, or the words that are broken.

    ``judged`` and ``not_judged`` are of all trials of the case; without any, both are empty.
    """

    id: str
    contract: str
    modes: str
    verdict: str
    evidence: str
    routine: str
    judged: list[str]
    not_judged: dict[str, str]


def row(
    case: Case,
    case_id: str,
    verdict: str,
    evidence: str,
    *,
    routine: str = "",
    trials: Sequence[Judgement] = (),
) -> Row:
    """Make a row; texts become single lines."""
    judged = dict.fromkeys(name for trial in trials for name in trial.verdicts)
    return Row(
        id=case_id,
        contract=case.contract,
        modes=", ".join(case.modes),
        verdict=" ".join(verdict.split()),
        evidence=escape(" ".join(evidence.split())),
        routine=routine,
        judged=list(judged),
        not_judged={
            name: reason
            for trial in trials
            for name, reason in trial.not_judged.items()
            if name not in judged
        },
    )


def of_failure(message: str, reports: Sequence[Judgement]) -> tuple[str, str]:
    """Words and evidence of a case that failed with this message."""
    headline = message.partition("\n")[0]
    if not headline.startswith("gracekill: "):
        return "FAILED", headline
    said = headline.removeprefix("gracekill: ")
    # the report that failed is the last one: what comes after a failure is not run
    for report in reversed(reports):
        found = [v for v in report.verdicts.values() if v.status != "ok" and v.headline in said]
        if found:
            words = [word for v in found for word in _words(v)]
            return ", ".join(words), found[0].evidence
    word, _, why = said.partition(" (")
    return word, why.removesuffix(")")


def _words(verdict: Verdict) -> tuple[str, ...]:
    return ("UNKNOWN",) if verdict.status == "unknown" else (verdict.word, *verdict.also)


def of_success(reports: Sequence[Judgement], remarks: Sequence[str]) -> tuple[str, str]:
    """What was seen in a case that passed: the signals, and what became of the VM."""
    told = list(remarks)
    for report in reports[-1:]:
        verdicts = report.verdicts
        outcome = verdicts["outcome"].evidence if "outcome" in verdicts else ""
        if "escalation" in verdicts and verdicts["escalation"].status == "ok":
            told += [verdicts["escalation"].evidence, outcome.rpartition("; ")[2]]
        else:
            # what it could not send is no finding here: what it said of that counts
            told.append(outcome)
    return "ok", "; ".join(filter(None, told))


def read_first(rows: Sequence[Row], most: int = 3) -> list[Row]:
    """The failed cases that tell most: for each worst word one, the worst ones first."""
    failed = [
        row
        for row in rows
        # an error of the set-up is none of the case's
        if row["verdict"] not in ("ok", "skipped") and not row["verdict"].startswith("ERROR")
    ]
    chosen: dict[int, Row] = {}
    for candidate in failed:
        chosen.setdefault(severity(candidate["verdict"]), candidate)
    return [chosen[place] for place in sorted(chosen)][:most]
