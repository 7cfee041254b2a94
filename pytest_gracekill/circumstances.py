"""What a trial was, for whoever reads its evidence later: the routine, the knobs, the calls.

Everything here is plain data: texts, numbers, lists, dicts.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from pytest_gracekill.report import Moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_gracekill.child.knobs import Knobs
    from pytest_gracekill.explore.run import Step
    from pytest_gracekill.judgement import Judgement
    from pytest_gracekill.report import Call
    from pytest_gracekill.trial import Plan
    from pytest_gracekill.verdicts.evidence import Evidence


#: How the step of a thread ends that stands still at the end of a schedule.
NO_FURTHER = ", and goes no further"


def of(plan: Plan, evidence: Evidence) -> dict[str, object]:
    """The circumstances of a trial, as `report.json` keeps them."""
    total = evidence.knobs.flush_total
    return {
        "routine": plan.routine.name,
        "policy": None if plan.policy is None else str(plan.policy),
        "knobs": _plain(evidence.knobs),
        "blocks": evidence.knobs.blocks,
        "flush_total": total if math.isfinite(total) else None,
        "survive": evidence.promise.survive,
        "calls": [
            _call(evidence.routine_actor, evidence.call, evidence.called_ns, evidence.returned_ns),
            *(
                _call(caller.actor, caller.call, caller.called_ns, caller.returned_ns)
                for caller in evidence.others
            ),
        ],
    }


def with_schedule(report: Judgement, steps: Sequence[Step], facts: Mapping[str, str]) -> Judgement:
    """The judgement of an explored failure, with the schedule that leads to it."""
    rows = [
        {
            "number": number,
            "task": step.actor,
            "operation": step.text,
            "line": "" if step.site is None else str(step.site),
            "at_ns": step.at_ns,
        }
        for number, step in enumerate(steps, start=1)
    ]
    about = {**report.circumstances, "steps": rows, "facts": dict(facts)}
    verdicts = {
        name: verdict
        if verdict.moments or verdict.status != "broken" or not steps
        else dataclasses.replace(verdict, moments=tuple(_at_the_end(verdict.word, steps)))
        for name, verdict in report.verdicts.items()
    }
    return dataclasses.replace(report, circumstances=about, verdicts=verdicts)


def _at_the_end(word: str, steps: Sequence[Step]) -> Iterator[Moment]:
    """Where a schedule has led to: to whoever goes no further, or to its last step."""
    stuck = [step for step in steps if step.text.endswith(NO_FURTHER)]
    for step in stuck or steps[-1:]:
        yield Moment(word=word, lane=f"thread {step.actor}", at_ns=step.at_ns, text=step.text)


def _call(actor: str, call: Call, called_ns: int, returned_ns: int) -> dict[str, object]:
    return {
        "actor": actor,
        "called_ns": called_ns,
        "returned_ns": returned_ns,
        "cut_off": call.success is None,
        "told": str(call),
    }


def _plain(knobs: Knobs) -> dict[str, object]:
    """The knobs that are not the default, as JSON can hold them."""
    changed: dict[str, object] = {}
    for field in dataclasses.fields(knobs):
        value = getattr(knobs, field.name)
        if value != field.default:
            changed[field.name] = _value(value)
    return changed


def _value(value: object) -> object:
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, frozenset):
        rows: Sequence[str] = sorted(map(str, value))
        return list(rows)
    return str(value)
