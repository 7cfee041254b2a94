"""A trial that could not be judged because of the machine is run once more, and says so.

Only where nothing is broken, and where a second run is the same as the first: the routine is called
anew, and with it whatever it closes over, but an object of the user's that the first run has used
is not what it was. So there is no second run of a method, or of another callable object, nor with a
VM that was handed in, with ``contend=``, with ``locks=``, or with an act that is a callable.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_gracekill import clock
from pytest_gracekill.errors import StartError, UnsupportedError, UsageError
from pytest_gracekill.legible import error_text
from pytest_gracekill.routine.external import External

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_gracekill.judgement import Judgement
    from pytest_gracekill.trial import Plan

#: How many times as long as the first run there has to be until pytest-timeout ends the test.
_LEFT = 2.0


def judged(plan: Plan, run: Callable[[Plan], Judgement], folder: Callable[[], Path]) -> Judgement:
    """What the trial has found; the second run's findings where the first could not be judged.

    :param run: runs one trial.
    :param folder: makes a folder for the second.
    """
    __tracebackhide__ = True
    began = clock.monotonic()
    first = run(plan)
    why = unjudged(first)
    if why is None or not _is_repeatable(plan, clock.monotonic() - began):
        return first
    told = f"run twice: the first run could not be judged: {why}"
    try:
        second = run(replace(plan, directory=folder()))
    except (UsageError, StartError, UnsupportedError) as error:
        notes = (f"{told}; the second run failed: {error_text(error)}", *first.notes)
        return replace(first, notes=notes, run_twice=why)
    if any(verdict.status == "broken" for verdict in second.verdicts.values()):
        # it may be of what the first run has left in the user's objects
        notes = (f"{told}; the second run said {second.headline()}", *first.notes)
        return replace(first, notes=notes, run_twice=why)
    return replace(second, notes=(told, *second.notes), run_twice=why)


def unjudged(found: Judgement) -> str | None:
    """Why a trial could not be judged, where that is the machine's doing alone; else None."""
    wrong = [verdict for verdict in found.verdicts.values() if verdict.status != "ok"]
    spoilt = [v for v in wrong if v.status == "unknown" and v.cause == "machine"]
    if found.clean_up is not None or not wrong or len(spoilt) < len(wrong):
        return None
    return "; ".join(dict.fromkeys(verdict.evidence for verdict in spoilt))


def _is_repeatable(plan: Plan, took: float) -> bool:
    """Whether a second run is the same as the first, and there is the time for it."""
    if plan.vm is not None or plan.contend or plan.locks:
        return False
    if any(callable(act) for act in plan.at.values()) or _has_state(plan.routine.routine):
        return False
    return plan.deadline is None or plan.deadline - clock.monotonic() > _LEFT * took


def _has_state(routine: object) -> bool:
    """Whether a routine is an object of its own, or a method of one."""
    while isinstance(routine, functools.partial):
        routine = routine.func
    return not (isinstance(routine, External) or inspect.isfunction(routine))
