"""What a routine promises in a trial, and what it claims afterwards.

The same whether the trial is run with real processes or explored.
"""

from __future__ import annotations

import inspect
from math import isfinite
from typing import TYPE_CHECKING

from pytest_gracekill.errors import UsageError
from pytest_gracekill.legible import error_text, text_of
from pytest_gracekill.passing import passes_through
from pytest_gracekill.routine.adapt import name_of
from pytest_gracekill.routine.flags import KillFlags
from pytest_gracekill.routine.policy import KillPolicy
from pytest_gracekill.verdicts.evidence import TOLERANCE, Promise
from pytest_gracekill.witness.sites import line_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gracekill.child.knobs import Knobs
    from pytest_gracekill.trial import Plan


def budget_of(plan: Plan) -> float:
    """Seconds after which a call is cut off."""
    if plan.budget is not None:
        return plan.budget
    policy = plan.policy or KillPolicy()
    return policy.grace + policy.reap + longest_end(plan.knobs) + 5.0


def promise_of(plan: Plan, knobs: Knobs, budget: float) -> Promise:
    """What is expected of this call, by its flags or by what the test said of it."""
    force = plan.force
    if force is None and plan.routine.takes("flags"):
        force = bool(plan.flags & KillFlags.FORCE)
    survive = plan.survive
    if survive is None and knobs.ends_by_itself:
        survive = knobs.flush_total
    return Promise(
        force=force,
        nowait=plan.nowait,
        survive=survive,
        grace=None if plan.policy is None else plan.policy.grace,
        takes_driver=plan.routine.kind == "driver",
        slack=plan.slack,
        stall_limit=plan.stall_limit,
        budget=budget,
        survive_asked=plan.survive_asked,
        returns=plan.returns,
        vm_needs_longer=plan.survive is not None and longest_end(knobs) > plan.survive,
    )


def notes_of(plan: Plan, knobs: Knobs) -> tuple[str, ...]:
    """How much of the promised time the trial could test, where that is not all of it."""
    if plan.survive is None or plan.nowait or not knobs.ends_by_itself:
        return ()
    tested = longest_end(knobs)
    if tested >= plan.survive - TOLERANCE:
        return ()
    linger = f", linger={knobs.linger:g}" if knobs.linger else ""
    times = f"flush_time={knobs.flush_time:g}{linger}"
    promised = f"survive: {plan.survive:g} s promised"
    return (f"{promised}; this trial tested {tested:.3g} s of it ({times})",)


def claims_success(
    plan: Plan, result: object, error: BaseException | None, *, killed: bool = False
) -> bool:
    """Whether a call says that it has ended the VM.

    :param killed: the VM is dead by the routine's SIGKILL, for which its API may raise by contract.
    """
    if error is not None:
        return killed and isinstance(error, plan.raises)
    if plan.succeeded is not None:
        return _answer(plan.succeeded, result)
    return result is not False and ok_of(result) is not False


def ok_of(result: object) -> object:
    """Return the result's ``ok``; True where it has none, or where it cannot be read."""
    try:
        return getattr(result, "ok", True)
    except Exception:  # noqa: BLE001 - an object of the user's; `unread` gives the reason
        return True


def unread(plan: Plan, result: object) -> str:
    """Why it cannot be read from a result whether it says success; empty where it can."""
    if plan.succeeded is not None:
        return ""
    try:
        getattr(result, "ok", True)
    except Exception as error:  # noqa: BLE001 - as above
        return f"its .ok raised {error_text(error)}"
    return ""


def _answer(succeeded: Callable[[object], bool], result: object) -> bool:
    """What the user's ``succeeded`` makes of a result."""
    name = name_of(succeeded)
    try:
        says: object = succeeded(result)
    except BaseException as error:
        if passes_through(error):
            raise
        raise UsageError(
            f"succeeded={name} raised {error_text(error)}{line_of(error)}, asked about the result"
            f" {text_of(result)}; True or False is needed",
            source="the call",
        ) from error
    if not isinstance(says, bool):
        if inspect.iscoroutine(says):
            says.close()
        raise UsageError(
            f"succeeded={name} returned {says!r}, asked about the result {text_of(result)}; True"
            " (it reports success) or False is needed",
            source="the call",
        )
    return says


def longest_end(knobs: Knobs) -> float:
    """Seconds from the stop request to the exit; for an endless flush, its ``flush_time``."""
    total = knobs.flush_total
    return (total if isfinite(total) else knobs.flush_time) + knobs.linger
