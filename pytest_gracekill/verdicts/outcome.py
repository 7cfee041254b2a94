"""Did the routine tell the truth about the VM?

The facts are the VM's pidfd and its journal; the claim is what the routine returned or raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.report import NotJudged, Verdict
from pytest_gracekill.verdicts.evidence import SIGKILL, TOLERANCE
from pytest_gracekill.verdicts.views import worst
from pytest_gracekill.witness.locks import DeadlockDetected
from pytest_gracekill.witness.signals import signal_name

if TYPE_CHECKING:
    from pytest_gracekill.verdicts.evidence import Evidence


def judge(evidence: Evidence) -> Verdict | NotJudged:
    """Broken when a caller claimed success or failure against the facts."""
    return worst(evidence, _judge)


def _judge(evidence: Evidence) -> Verdict | NotJudged:
    if evidence.hung:
        return NotJudged(name="outcome", reason="the routine was cut off: it claimed nothing")
    if isinstance(evidence.call.error, DeadlockDetected):
        return NotJudged(
            name="outcome", reason="the routine was in the deadlock that was broken up"
        )
    for check in (_claimed_success, _claimed_failure, _claimed_signal):
        found = check(evidence)
        if found is not None:
            word, text, advice = found
            return Verdict(
                name="outcome",
                status="broken",
                word=word,
                evidence=f"{evidence.call}; {text}",
                advice=advice,
            )
    return Verdict(
        name="outcome", status="ok", word="ok", evidence=f"{evidence.call}; {_fact(evidence)}"
    )


def _fact(evidence: Evidence) -> str:
    if not evidence.alive_at_return:
        return "the VM is dead"
    if evidence.ended_by_trial:
        return "the VM lives on"
    if evidence.exit_ns is None:
        return "the VM still ran"
    return f"the VM still ran, and exited at {evidence.stamp(evidence.exit_ns)}"


def _claimed_success(evidence: Evidence) -> tuple[str, str, str] | None:
    if not evidence.call.success or evidence.promise.nowait or not evidence.alive_at_return:
        return None
    if evidence.ended_by_trial:
        return (
            "LEAKED",
            "the VM lives on",
            "look at the process before success is reported: wait for its end with a deadline",
        )
    return (
        "EARLY",
        _fact(evidence),
        "wait for the exit itself (pidfd, waitpid), not for something that comes before it",
    )


def _claimed_failure(evidence: Evidence) -> tuple[str, str, str] | None:
    if evidence.call.success or evidence.alive_at_return or evidence.ended_ns is None:
        return None
    error = evidence.call.error
    # a death in the last milliseconds can't be known to the routine, unless it says so itself
    knew = isinstance(error, ProcessLookupError) or type(error).__name__ == "NoSuchProcess"
    held_up = evidence.held_up(evidence.ended_ns, evidence.returned_ns)
    if evidence.returned_ns - evidence.ended_ns - held_up < TOLERANCE * 1e9 and not knew:
        return None
    died = f"the VM was dead since {evidence.stamp(evidence.ended_ns)}"
    if error is not None:
        return "RAISED", died, "an end of the VM is what was asked for: don't raise for it"
    return "LIED", died, "look at the process once more before a failure is reported"


def _claimed_signal(evidence: Evidence) -> tuple[str, str, str] | None:
    """Forced and graceful mixed up; only for results that say which signal ended the VM."""
    claimed = getattr(evidence.call.result, "signal", None)
    dead = getattr(evidence.call.result, "dead", None)
    if not isinstance(claimed, int) or not dead or evidence.exit is None or evidence.ended_by_trial:
        return None
    by_kill = evidence.exit.signal == SIGKILL
    if evidence.exit.code is None and evidence.exit.signal is None:
        return None
    if by_kill == (claimed == SIGKILL):
        return None
    signum, at_ns = evidence.exit.signal, round(evidence.exit.at * 1e9)
    how = f"exited {evidence.exit.code}" if signum is None else f"ended by {signal_name(signum)}"
    return (
        "LIED",
        f"it claims {signal_name(claimed)}; the VM {how} at {evidence.stamp(at_ns)}",
        "report SIGKILL only when it was sent, and only when the VM had not exited before",
    )
