"""Was the VM asked to stop, did the request reach it, and was it killed as was promised?

The recorder sees a signal of a routine in Python before it is sent, and the VM's journal notes each
request that reached the VM. A deadly signal that was not seen being sent is known by its effect.
"""

from __future__ import annotations

from errno import errorcode
from math import ceil
from typing import TYPE_CHECKING

from pytest_gracekill.data.requests import signal_name
from pytest_gracekill.report import NotJudged, Verdict
from pytest_gracekill.verdicts.claims import MEND, is_mistake, was_cancelled
from pytest_gracekill.verdicts.disturbed import certain, requested, unknown
from pytest_gracekill.verdicts.evidence import TOLERANCE
from pytest_gracekill.verdicts.findings import folded
from pytest_gracekill.verdicts.requests import (
    CURES,
    STOP_SIGNALS,
    deadly,
    requests_of,
    unheard,
    was_flushed,
)

if TYPE_CHECKING:
    from pytest_gracekill.data.requests import Request
    from pytest_gracekill.verdicts.evidence import Evidence
    from pytest_gracekill.verdicts.findings import Finding

_SIGTERM = 15

#: The word that two verdicts can say.
UNHEARD = "UNHEARD"

#: What to change where the kernel killed the VM: never more grace.
KEEP_THREAD = (
    "keep the thread that forks the VM until the VM has ended: with PR_SET_PDEATHSIG the kernel"
    " kills the VM when that thread ends, not when the process does"
)


def judge(evidence: Evidence) -> Verdict | NotJudged:
    """Broken by a deadly signal too early, missing or unwanted, or by a request that never came."""
    found = (
        _stranger(evidence),
        _killed_anyway(evidence),
        never_asked(evidence),
        _unheard(evidence),
        _killed_early(evidence),
        _never_killed(evidence),
        _repeated(evidence),
    )
    broken = folded("escalation", certain(evidence, "escalation", found))
    if broken is not None:
        return broken
    disturbed = unknown(
        evidence, "escalation", doubted=any(found), before=f"{_sequence(evidence)}; "
    )
    if disturbed is not None:
        return disturbed
    from_outside = [request for request in evidence.requests if request.outside is not None]
    if from_outside and len(from_outside) == len(evidence.requests):
        told = "; ".join(requested(evidence, request) for request in from_outside)
        return Verdict(
            name="escalation",
            status="unknown",
            word="unknown",
            evidence=f"{told}, and the routine's own request never came",
            cause="outside",
        )
    if evidence.knobs.reuse_pid and not _was_reused(evidence):
        return Verdict(
            name="escalation",
            status="unknown",
            word="unknown",
            evidence="the VM's pid was to be used again, and no other process got it",
        )
    return Verdict(name="escalation", status="ok", word="ok", evidence=_sequence(evidence))


def _was_reused(evidence: Evidence) -> bool:
    return any(entry.event == "reused" for entry in evidence.journal)


def _sequence(evidence: Evidence) -> str:
    """Every request and signal that reached the VM in order, then those that went elsewhere."""
    rows = [(request.at_ns, request.name) for request in evidence.requests]
    rows += [
        (signal.at_ns, signal_name(signal.signum))
        for signal in evidence.signals
        if signal.reached_vm and signal.signum not in (0, *STOP_SIGNALS)
    ]
    killed = deadly(evidence)
    told = [f"{name} {evidence.stamp(at_ns)}" for at_ns, name in sorted(rows)]
    if killed is not None and not killed.seen:
        told.append(f"{killed} {evidence.stamp(killed.at_ns)} (seen by its effect)")
    told = _shortened(told) or ["no request and no signal reached the VM"]
    return "; ".join((", ".join(told), *_elsewhere(evidence)))


def _shortened(told: list[str]) -> list[str]:
    if len(told) <= 4:  # noqa: PLR2004 - a line's worth; the history has all
        return told
    return [*told[:3], f"... {len(told) - 4} more ...", told[-1]]


def _elsewhere(evidence: Evidence) -> list[str]:
    """The signals that did not reach the VM: to whom they went, or why they were refused."""
    told = []
    vms = {signal.pid for signal in evidence.signals if signal.to == "vm"}
    for signal in evidence.signals:
        if signal.reached_vm or signal.refused or signal.other_run or signal.signum == 0:
            continue
        name = signal_name(signal.signum)
        if signal.to == "nobody" and signal.pid in vms:
            told.append(f"{name} {evidence.stamp(signal.at_ns)} after the VM's end")
        elif signal.to == "vm":
            why = errorcode.get(signal.errno or 0, f"errno {signal.errno}")
            told.append(f"{name} to the VM {evidence.stamp(signal.at_ns)} failed ({why})")
        else:
            told.append(f"{name} to {signal.whom}, not the VM")
    return _shortened(list(dict.fromkeys(told)))


def _stranger(evidence: Evidence) -> Finding | None:
    hit = next((signal for signal in evidence.signals if signal.refused), None)
    if hit is None:
        return _stranger_by_journal(evidence)
    where = f" ({hit.site})" if hit.site else ""
    what = f"{signal_name(hit.signum)} to {hit.target} at {evidence.stamp(hit.at_ns)}"
    return (
        "STRANGER",
        f"{what}, refused{where}",
        "signal only the VM that was started: check the pid, keep a pidfd from before the wait",
    )


def _stranger_by_journal(evidence: Evidence) -> Finding | None:
    """What the process got that has the VM's pid now: by a command, or by C code."""
    hit = next((entry for entry in evidence.journal if entry.event == "stranger_hit"), None)
    if hit is None:
        return None
    name = signal_name(hit.number("signal"))
    return (
        "STRANGER",
        f"{name} to a process that has got the VM's pid since, at {evidence.stamp(hit.at_ns)}",
        "a pid is free again when its process was reaped: keep a pidfd from before the wait",
    )


def _killed_anyway(evidence: Evidence) -> Finding | None:
    killed = evidence.killed_ns
    if evidence.promise.force is not False or killed is None:
        return None
    return (
        "KILLED ANYWAY",
        f"{_sequence(evidence)}; it was to be graceful",
        "without FORCE a VM that does not end is reported as a failure, and never gets SIGKILL",
    )


def never_asked(evidence: Evidence) -> Finding | None:
    """No stop request reached a VM that was alive at the call, and the routine made an end of it.

    Or it reported success; or a failure, without a try that the kernel or the monitor refused. A
    call that was cut off or cancelled claims nothing.
    """
    promise = evidence.promise
    if evidence.dead_before or evidence.requests or was_flushed(evidence):
        return None
    if promise.nowait and promise.force:
        return None
    killed = deadly(evidence)
    calls = [evidence.call, *(caller.call for caller in evidence.others)]
    claims = [call.success for call in calls if not was_cancelled(call.error)]
    lives = evidence.exit_ns is None or evidence.exit_ns > evidence.returned_ns
    if killed is not None:
        how = f"{killed} at {evidence.stamp(killed.at_ns)} ended it{_by_thread(evidence)}"
    elif not lives:
        return None  # it ended by itself
    elif any(claims):
        how = "success was reported"
    elif False in claims and not _was_refused(evidence):
        how = "a failure was reported, and no try reached the VM"
    else:
        return None
    rejected = [
        f"the monitor rejected {entry.fields.get('said', '')!r}: {entry.fields.get('error', '')!s}"
        for entry in evidence.journal
        if entry.event == "qmp_error"
    ]
    return (
        "NEVER ASKED",
        "; ".join((f"no stop request reached the VM; {how}", *rejected[:2], *_elsewhere(evidence))),
        _how_to_ask(evidence),
    )


def _how_to_ask(evidence: Evidence) -> str:
    """What to change where the VM was never asked."""
    if _by_thread(evidence):
        return KEEP_THREAD
    if deadly(evidence) is None and is_mistake(evidence.call.error):
        return MEND
    return (
        "request the stop first: send SIGTERM (or QMP quit) to the VM itself, and wait for its end"
    )


def _was_refused(evidence: Evidence) -> bool:
    """Whether a try to ask the VM was refused: by the kernel, by the guard, or by the monitor."""
    return any(
        signal.refused or (signal.to == "vm" and signal.errno is not None)
        for signal in evidence.signals
    ) or any(entry.event == "qmp_error" for entry in evidence.journal)


def _unheard(evidence: Evidence) -> Finding | None:
    """A request that could not be heard; said by the verdict on data where data were lost."""
    request = unheard(evidence)
    if request is None or evidence.audit.lost or request.unheard is None:
        return None
    return UNHEARD, f"{_sequence(evidence)}; {unheard_text(request)}", CURES[request.unheard.reason]


def unheard_text(request: Request) -> str:
    """What became of a request that was not heard."""
    return f"{request.name} was not heard: {request.unheard}"


def _killed_early(evidence: Evidence) -> Finding | None:
    promise = evidence.promise
    grace, killed = evidence.grace_given, deadly(evidence)
    asked_for = promise.nowait and promise.force
    if grace is None or promise.survive is None or promise.force is False or asked_for:
        return None
    if not evidence.cut_short or unheard(evidence) is not None or killed is None:
        return None
    longer = promise.survive > evidence.knobs.flush_total + TOLERANCE
    what = "it promises to survive" if longer else "the flush needed"
    figures = f"{what} {promise.survive:.2f} s, the grace was {grace:.2f} s"
    by_thread = _by_thread(evidence)
    return (
        "KILLED EARLY",
        f"{_sequence(evidence)}{by_thread}; {figures}",
        KEEP_THREAD if by_thread else _more_grace(evidence, promise.survive),
    )


def _by_thread(evidence: Evidence) -> str:
    """That the VM died with the thread that had forked it; empty where that is not so."""
    killed = deadly(evidence)
    if killed is None or killed.sender != "thread":
        return ""
    return f" (PR_SET_PDEATHSIG: {evidence.suspects.thread}, had forked the VM)"


def _more_grace(evidence: Evidence, needed: float) -> str:
    # a quarter more than was needed, in half seconds: a figure to paste, not to compute with
    enough = ceil(needed * 1.25 * 2) / 2
    text = f"give the flush {needed:.2f} s or more"
    return f"{text}: KillPolicy(grace={enough})" if evidence.promise.takes_driver else text


def _never_killed(evidence: Evidence) -> Finding | None:
    if evidence.promise.force is not True or evidence.killed_ns is not None:
        return None
    if not evidence.alive_at_return or evidence.promise.nowait:
        return None
    if was_cancelled(evidence.call.error):
        return None
    return (
        "NEVER KILLED",
        f"{_sequence(evidence)}; the VM outlived the routine, and SIGKILL never came",
        "send SIGKILL when the grace is over, and check that the VM is gone after it",
    )


def _repeated(evidence: Evidence) -> Finding | None:
    aborts = evidence.knobs.on_second_term != "ignore"
    if not aborts and not evidence.promise.takes_driver:
        return None
    from_outside = sum(request.outside is not None for request in evidence.requests)
    seen = len(requests_of(evidence.journal)) - from_outside
    sent = [
        s
        for s in evidence.signals
        if s.signum == _SIGTERM and s.reached_vm and not evidence.by_act(s.actor)
    ]
    times = max(seen if aborts else 0, len(sent))
    if times < 2:  # noqa: PLR2004 - twice is repeated
        return None
    return (
        "REPEATED",
        f"{_sequence(evidence)}: {times} stop signals for one VM",
        "send SIGTERM once: some programs take the second one as 'stop flushing'",
    )
