"""What a schedule of a kill routine is worth: its evidence, judged by the verdicts of a trial."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pytest_gracekill import circumstances
from pytest_gracekill.driving import TARGET
from pytest_gracekill.explore.run import START_NS
from pytest_gracekill.explore.stage import AWAITS_CALL, AWAITS_EOF, ROUTINE
from pytest_gracekill.explore.stuck import deadlock_in
from pytest_gracekill.judgement import Judgement
from pytest_gracekill.legible import error_text
from pytest_gracekill.promises import claims_success, promise_of, unread
from pytest_gracekill.report import Call, Verdict
from pytest_gracekill.verdicts import JUDGES, deadlock, judge
from pytest_gracekill.verdicts.claims import line_of_mistake
from pytest_gracekill.verdicts.evidence import (
    SHORT_NS,
    ActsSeen,
    Caller,
    Evidence,
    IdentitySeen,
    LockState,
)
from pytest_gracekill.verdicts.requests import requests_of, sigkill_sent
from pytest_gracekill.witness.history import History

if TYPE_CHECKING:
    from pytest_gracekill.explore.run import Run
    from pytest_gracekill.explore.stage import Called, Explored, Stage
    from pytest_gracekill.trial import Plan
    from pytest_gracekill.witness.dead_end import AnyDeadlock
    from pytest_gracekill.witness.history import RawHeld, RawWait
    from pytest_gracekill.witness.sites import Frame

#: What says nothing where time passes beside threads that could go on.
_NEEDS_JUMP = "judged under clock='jump' only: here time passes beside threads that could go on"
#: Words for a signal that came too soon, or not before somebody has waited in vain.
_DEPENDS_ON_TIME = ("KILLED EARLY", "NEVER KILLED")


def signature(stage: Stage) -> object:
    """Everything that a verdict could read, in a form that can be compared."""
    run, vm = stage.run, stage.vm
    return (
        run.outcome,
        run.now if run.outcome == "late" else 0,
        tuple(
            (
                c.called_ns,
                c.returned_ns,
                c.at_entry,
                c.at_return,
                c.alive,
                c.alive_seen,
                repr(c.result),
                _named_error(c.error),
            )
            for c in stage.calls
        ),
        tuple(run.signals),
        (tuple(vm.taken), vm.ended_at, vm.gone_at, vm.code, vm.killed_by, vm.begun),
        tuple((event, at) for at, event, _ in vm.log),
        tuple((lock.name, hold[0].name, hold[1], until) for lock, hold, until in run.holds),
        tuple((w[0].name, w[1].name, w[2], w[3], w[4], w[5]) for w in run.waits),
        tuple((c.name, tuple(c.spans), _error_of(c)) for c in stage.contenders),
        tuple((use.domain, use.what, use.actor, use.at_ns) for use in stage.notices.uses),
        tuple((c.domain, c.incarnation, c.actor, c.at_ns) for c in stage.notices.clean_ups),
        tuple(
            (task.name, since, until) for task, since, until in run.delays if task.name == ROUTINE
        ),
        tuple(
            (index, s.kind, str(s.what), None if s.owner is None else s.owner.name)
            for index, s in run.standing.items()
        ),
    )


def _error_of(contender: Explored) -> object:
    task = contender.task
    return None if task is None else _named_error(task.error)


def judged(plan: Plan, stage: Stage, budget: float) -> Judgement:
    """The report of a schedule that has ended."""
    found = deadlock_in(stage.run, benign=_benign(stage))
    evidence = _evidence(plan, stage, budget, found)
    if found is not None:
        reason = "the schedule ends in a deadlock"
        verdicts = {"deadlock": deadlock.dead_end(evidence, found)}
        not_judged = {name: reason for name in JUDGES if name != "deadlock"}
    else:
        verdicts, not_judged = judge(evidence)
        if stage.run.explores_time:
            _drop_what_needs_jump(verdicts, not_judged)
        not_judged["leftovers"] = "nothing is left of a simulated VM"
    return Judgement(
        verdicts=verdicts,
        not_judged=not_judged,
        disk=evidence.audit,
        calls=(evidence.call, *(caller.call for caller in evidence.others)),
        history=_history(stage, evidence),
        sigkill_sent=sigkill_sent(evidence),
        circumstances=circumstances.of(plan, evidence),
    )


def _drop_what_needs_jump(verdicts: dict[str, Verdict], not_judged: dict[str, str]) -> None:
    for name in ("promptness", "progress", "escalation"):
        verdict = verdicts.get(name)
        if verdict is None:
            continue
        if name == "progress" and verdict.status == "broken":
            continue  # it has raised
        if name == "escalation" and verdict.word not in _DEPENDS_ON_TIME:
            continue
        del verdicts[name]
        not_judged[name] = _NEEDS_JUMP


def _benign(stage: Stage) -> frozenset[str]:
    """Who may wait for ever: for an end of the VM that does not come."""
    return frozenset(
        f"gracekill:{contender.name}"
        for contender in stage.contenders
        if contender.task is not None and contender.task.kind in (AWAITS_EOF, AWAITS_CALL)
    )


def _evidence(plan: Plan, stage: Stage, budget: float, found: AnyDeadlock | None) -> Evidence:
    run, vm = stage.run, stage.vm
    views = [_view(plan, stage, called) for called in stage.calls]
    first, *others = views
    exit_ = vm.exit()
    ended_by_trial = exit_ is None
    journal = vm.journal(START_NS)
    asked = requests_of(journal)
    contenders = _contending(stage)
    history = _history_of_locks(run)
    jump = not run.explores_time
    return Evidence(
        knobs=vm.knobs,
        promise=promise_of(plan, vm.knobs, budget),
        call=first.call,
        called_ns=first.called_ns,
        returned_ns=first.returned_ns,
        hung_in=first.hung_in,
        routine_actor=first.actor,
        first_request_ns=asked[0] if asked else None,
        signals=tuple(run.signals),
        journal=journal,
        exit=exit_,
        exit_ns=vm.ended_at if exit_ is not None else None,
        gone_ns=vm.ended_at if exit_ is not None else None,
        alive_at_return=first.alive_at_return,
        ended_at_return=first.ended_at_return,
        knew_the_end=first.knew_the_end,
        ended_by_trial=ended_by_trial,
        audit=vm.audit(),
        holds=tuple(history.long_holds(SHORT_NS, always=first.actor)) if jump else (),
        waits=tuple(history.long_waits(SHORT_NS)) if jump else (),
        lock_state=_lock_state(run, first, found),
        contenders=contenders,
        leftovers=None,
        identity=None
        if stage.domain is None or stage.victim is None
        else IdentitySeen(
            domain=TARGET,
            incarnation=stage.victim.id,
            uses=tuple(stage.notices.uses),
            clean_ups=tuple(stage.notices.clean_ups),
        ),
        acts=ActsSeen(
            pauses=tuple(
                (since, until) for task, since, until in run.delays if task is stage.calls[0].task
            ),
            actors=frozenset(stage.actors),
        ),
        others=tuple(others),
    )


def _contending(stage: Stage) -> tuple[Explored, ...]:
    run = stage.run
    for contender in stage.contenders:
        task = contender.task
        assert task is not None
        contender.error, contender.raised_ns = task.error, task.raised_ns
        if contender.began is not None and not contender.spans and task.error is None:
            # it stands in its operation: what it has suffered so far counts
            contender.spans = [(contender.began, run.now)]
    if run.explores_time:
        return tuple(c for c in stage.contenders if c.error is not None)
    return tuple(stage.contenders)


def _view(plan: Plan, stage: Stage, called: Called) -> Caller:
    run = stage.run
    task = called.task
    assert task is not None
    returned = called.returned_ns is not None
    called_ns = run.now if called.called_ns is None else called.called_ns
    returned_ns = run.now if called.returned_ns is None else called.returned_ns
    success = claims_success(plan, called.result, called.error) if returned else None
    alive = called.alive if returned else not stage.vm.ended()
    if returned and not success and run.explores_time:
        # what it could know is what it saw when it last looked, or what a thread of its own
        # has told it, which may have come too late
        alive = called.alive_seen or (bool(run.delays) and _has_waited_in_vain(called.error))
    hung_in: tuple[Frame, ...] = ()
    if not returned and run.recorded:
        standing = run.standing.get(task.index)
        hung_in = () if standing is None else standing.stack
    return Caller(
        actor=called.actor,
        call=Call(
            success=success,
            result=called.result,
            error=called.error,
            elapsed=(returned_ns - called_ns) / 1e9,
            unread=unread(plan, called.result) if returned else "",
            raised_at=line_of_mistake(called.error),
        ),
        called_ns=called_ns,
        returned_ns=returned_ns,
        hung_in=hung_in,
        alive_at_return=alive,
        ended_at_return=not alive,
        knew_the_end=returned and not called.alive_seen,
        at_entry=called.at_entry,
        at_return=called.at_return if returned else called.at_entry,
    )


def _lock_state(run: Run, first: Caller, found: AnyDeadlock | None) -> LockState | None:
    if not run.locks:
        return None
    return LockState(
        traced=len(run.locks),
        acquisitions=run.acquisitions,
        at_entry=first.at_entry,
        at_return=first.at_return,
        deadlocks=() if found is None else (found,),
        # an order that has a cycle deadlocks in some schedule, or in none: that is looked at
        cycles=(),
        order_is_judged=False,
    )


def _history_of_locks(run: Run) -> History:
    history = History()
    # the shape is the same: a lock, a thread and a site by their names
    history.raw_holds.extend(cast("list[RawHeld]", run.holds))
    history.raw_waits.extend(cast("list[RawWait]", run.waits))
    return history


def _history(stage: Stage, evidence: Evidence) -> History:
    history = _history_of_locks(stage.run)
    history.origin_ns = evidence.called_ns
    if not stage.run.recorded:
        return history
    for entry in evidence.journal:
        history.record(entry.event, "fake", entry.at_ns, **entry.fields)
    exit_, gone_ns = evidence.exit, evidence.gone_ns
    if exit_ is not None and gone_ns is not None:
        # what a signal ends says no word of it; a trial has seen its end, and so has this
        history.record(
            "gone", "fake", gone_ns, code=exit_.code, signal=exit_.signal, by_trial=False
        )
    for step in stage.run.steps:
        site = None if step.site is None else str(step.site)
        history.record("step", step.actor, step.at_ns, text=step.text, site=site)
    return history


def _named_error(error: BaseException | None) -> object:
    return None if error is None else error_text(error)


def _has_waited_in_vain(error: BaseException | None) -> bool:
    """Whether a failure may be one of time: it was returned, or says so."""
    return error is None or "Timeout" in type(error).__name__
