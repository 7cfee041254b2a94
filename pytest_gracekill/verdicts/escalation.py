"""Which signals were sent, when, to whom, and was that what was promised?

Signals of an in-process routine are seen by the recorder before they are sent, and those that reach
the VM once more by its journal. A SIGKILL that nobody saw being sent is seen by its effect.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from pytest_gracekill.report import NotJudged, Verdict
from pytest_gracekill.verdicts.evidence import SIGKILL, TOLERANCE, requests_of
from pytest_gracekill.verdicts.findings import folded
from pytest_gracekill.witness.signals import signal_name

if TYPE_CHECKING:
    from pytest_gracekill.child.journal import Entry
    from pytest_gracekill.verdicts.evidence import Evidence
    from pytest_gracekill.verdicts.findings import Finding

_SIGTERM = 15


def judge(evidence: Evidence) -> Verdict | NotJudged:
    """Broken by a SIGKILL too early, missing or unwanted, by a repeated stop, by a stranger hit."""
    broken = folded(
        "escalation",
        (
            _stranger(evidence),
            _killed_anyway(evidence),
            _killed_early(evidence),
            _never_killed(evidence),
            _repeated(evidence),
        ),
    )
    if broken is not None:
        return broken
    if evidence.knobs.reuse_pid and not _was_reused(evidence):
        return Verdict(
            name="escalation",
            status="unknown",
            word="unknown",
            evidence="the VM's pid was to be used again, and no other process got it",
        )
    if _asked_nothing(evidence):
        return Verdict(
            name="escalation",
            status="unknown",
            word="unknown",
            evidence="no signal was sent to a VM that runs, and no other request came to it: the"
            " routine failed before it began",
            advice="look at what the routine raised or returned: it is there to end the VM",
        )
    return Verdict(name="escalation", status="ok", word="ok", evidence=_sequence(evidence))


def _asked_nothing(evidence: Evidence) -> bool:
    """It reported a failure without having tried anything: that says nothing of its signals."""
    tried = bool(evidence.signals) or bool(requests_of(evidence.journal))
    return evidence.call.success is False and evidence.alive_at_return and not tried


def _was_reused(evidence: Evidence) -> bool:
    return any(entry.event == "reused" for entry in evidence.journal)


def _sequence(evidence: Evidence) -> str:
    """Every signal in order, as people read it."""
    sent = [
        f"{signal_name(signal.signum)} {evidence.stamp(signal.at_ns)}"
        for signal in evidence.signals
        if signal.signum != 0
    ]
    if not any(signal.signum == SIGKILL for signal in evidence.signals):
        killed = evidence.killed_ns
        if killed is not None:
            sent.append(f"SIGKILL {evidence.stamp(killed)} (seen by its effect)")
    requests = [
        f"{_request(entry)} {evidence.stamp(entry.at_ns)}"
        for entry in evidence.journal
        if entry.event == "qmp" or (entry.event == "signal" and not evidence.signals)
    ]
    sent = requests + sent
    if not sent:
        return "no signal was sent"
    if len(sent) > 4:  # noqa: PLR2004 - a line's worth; the history has all
        sent = [*sent[:3], f"... {len(sent) - 4} more ...", sent[-1]]
    return ", ".join(sent)


def _request(entry: Entry) -> str:
    """What the VM was asked, by its journal."""
    if entry.event == "qmp":
        return f"QMP {entry.fields['command']}"
    number = int(str(entry.fields["signal"]))
    # a real storage daemon does not tell by what it was stopped
    return signal_name(number) if number else "a stop request"


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


def _killed_early(evidence: Evidence) -> Finding | None:
    promise = evidence.promise
    grace = evidence.grace_given
    asked_for = promise.nowait and promise.force
    if grace is None or promise.survive is None or promise.force is False or asked_for:
        return None
    if grace >= promise.survive - TOLERANCE:
        return None
    longer = promise.survive > evidence.knobs.flush_total + TOLERANCE
    what = "it promises to survive" if longer else "the flush needed"
    figures = f"{what} {promise.survive:.2f} s, the grace was {grace:.2f} s"
    return (
        "KILLED EARLY",
        f"{_sequence(evidence)}; {figures}",
        _more_grace(evidence, promise.survive),
    )


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
    return (
        "NEVER KILLED",
        f"{_sequence(evidence)}; the VM outlived the routine, and SIGKILL never came",
        "send SIGKILL when the grace is over, and check that the VM is gone after it",
    )


def _repeated(evidence: Evidence) -> Finding | None:
    aborts = evidence.knobs.on_second_term != "ignore"
    if not aborts and not evidence.promise.takes_driver:
        return None
    seen = requests_of(evidence.journal)
    sent = [
        s
        for s in evidence.signals
        if s.signum == _SIGTERM and s.reached_vm and not evidence.by_act(s.actor)
    ]
    times = max(len(seen) if aborts else 0, len(sent))
    if times < 2:  # noqa: PLR2004 - twice is repeated
        return None
    return (
        "REPEATED",
        f"{_sequence(evidence)}: {times} stop signals for one VM",
        "send SIGTERM once: some programs take the second one as 'stop flushing'",
    )
