"""A report as text: at most 100 columns, stable order, nothing that a log can't hold."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from pytest_gracekill.legible import error_text
from pytest_gracekill.render.folder import PAGE
from pytest_gracekill.report import VERDICTS
from pytest_gracekill.witness.sites import line_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_gracekill.judgement import Judgement

_WIDTH = 100


def table(report: Judgement) -> str:
    """The headline, a row per verdict, what to change, and what was not judged."""
    return failure(report, ())


def failure(report: Judgement, names: tuple[str, ...]) -> str:
    """The table under a headline of the named verdicts only, as ``report.check(*names)`` fails."""
    lines = [report.headline(*names)]
    words = [report.verdicts[name].word for name in report.verdicts]
    columns = 2 + max(len(name) for name in VERDICTS) + 2, max(map(len, words), default=2) + 2
    for name in VERDICTS:
        verdict = report.verdicts.get(name)
        if verdict is None:
            continue
        head = f"  {name}".ljust(columns[0]) + verdict.word.ljust(columns[1])
        lines += _wrapped(verdict.evidence, head, sum(columns))
        for line in verdict.detail:
            lines += _wrapped(line.lstrip(), " " * _indent(line), _indent(line) + 2)
    lines += [
        wrapped
        for advice in dict.fromkeys(v.advice for v in report.verdicts.values() if v.advice)
        for wrapped in _wrapped(advice, "", 2)
    ]
    for note in report.notes:
        lines += _wrapped(note, "", 2)
    if report.not_judged:
        lines += _wrapped(reasons(report.not_judged), "not judged: ", 12)
    if report.clean_up is not None:
        too = "" if all(v.status == "ok" for v in report.verdicts.values()) else ", too"
        raised = error_text(report.clean_up)
        lines += _wrapped(f"the adapter's clean-up failed{too}: {raised}", "", 2)
        if at := line_of(report.clean_up):
            lines += _wrapped(f"it raised{at}", "  ", 4)
    lines += [f"evidence: {folder / PAGE}" for folder in report.saved]
    lines += [wrapped for why in report.unsaved for wrapped in _wrapped(why, "", 2)]
    return "\n".join(lines)


def reasons(not_judged: Mapping[str, str]) -> str:
    """What was not judged, by the reason: each is told once."""
    return "; ".join(by_reason(not_judged))


def by_reason(not_judged: Mapping[str, str]) -> list[str]:
    """What was not judged: one text for each reason."""
    found: dict[str, list[str]] = {}
    for name, reason in not_judged.items():
        found.setdefault(reason, []).append(name)
    return [f"{', '.join(names)} ({why})" for why, names in found.items()]


def _indent(line: str) -> int:
    return 16 + len(line) - len(line.lstrip())


def _wrapped(text: str, first: str, indent: int) -> list[str]:
    return textwrap.wrap(
        text,
        width=_WIDTH,
        initial_indent=first,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [first.rstrip()]
