"""Did the routine tell the truth about the VM?

The facts are the VM's pidfd and its journal; the claim is what the routine returned or raised. A
failure is wrong only if the routine could know that the VM had ended. `select`, `waitpid` and
pidfds leave no trace of what it looked at, so the verdict goes by the zombie, by the kind of the
exception, and by time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_gracekill.data.requests import signal_name
from pytest_gracekill.report import NotJudged, Verdict
from pytest_gracekill.verdicts.claims import (
    MEND,
    attribute,
    is_mistake,
    means_timeout,
    was_cancelled,
)
from pytest_gracekill.verdicts.disturbed import certain, unknown
from pytest_gracekill.verdicts.evidence import TOLERANCE
from pytest_gracekill.verdicts.findings import folded
from pytest_gracekill.verdicts.requests import SIGKILL
from pytest_gracekill.verdicts.views import worst
from pytest_gracekill.witness.locks import DeadlockDetected

if TYPE_CHECKING:
    from pytest_gracekill.verdicts.evidence import Evidence
    from pytest_gracekill.verdicts.findings import Finding


def judge(evidence: Evidence) -> Verdict | NotJudged:
    """Broken when a caller claimed success or failure against the facts."""
    return worst(evidence, _judge)


def _judge(evidence: Evidence) -> Verdict | NotJudged:
    restarted = folded("outcome", certain(evidence, "outcome", (_restarted(evidence),)))
    if evidence.hung:
        return restarted or NotJudged(
            name="outcome", reason="the routine was cut off: it claimed nothing"
        )
    if isinstance(evidence.call.error, DeadlockDetected):
        return NotJudged(
            name="outcome", reason="the routine was in the deadlock that was broken up"
        )
    if evidence.call.unread and restarted is None:
        return _unknown(
            evidence,
            _fact(evidence),
            "say by succeeded= how to read from the result whether it reports success",
        )
    if evidence.dead_before and not evidence.death_expected:
        shown = _unknown(
            evidence,
            "the VM was dead before the call, and the test had not ended it: nothing shows what"
            " the routine does",
            "look at what has ended the VM; a test that ends it itself hands it in by vm=, and"
            " waits for its end",
        )
        return replace(shown, cause="outside")
    return _found(evidence)


def _unknown(evidence: Evidence, why: str, advice: str) -> Verdict:
    return Verdict(
        name="outcome",
        status="unknown",
        word="unknown",
        evidence=f"{evidence.call}; {why}",
        advice=advice,
    )


def _found(evidence: Evidence) -> Verdict:
    found = (
        _claimed_success(evidence),
        _claimed_failure(evidence),
        _cancelled(evidence),
        _claimed_signal(evidence),
        _restarted(evidence),
    )
    before = f"{evidence.call}; "
    broken = folded("outcome", certain(evidence, "outcome", found), before=before)
    if broken is not None:
        return broken
    disturbed = unknown(evidence, "outcome", doubted=any(found), before=before)
    return disturbed or Verdict(
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


def _outlived(evidence: Evidence) -> bool:
    """Whether the VM outlived the time that it was to end in, or would have lived on."""
    if evidence.ended_by_trial:
        return True
    deadline_ns, exit_ns = evidence.flush_deadline_ns, evidence.exit_ns
    if deadline_ns is None or exit_ns is None or not evidence.promise.vm_needs_longer:
        return False
    return exit_ns > deadline_ns + int(TOLERANCE * 1e9)


def _claimed_success(evidence: Evidence) -> Finding | None:
    if not evidence.call.success or evidence.promise.nowait or not evidence.alive_at_return:
        return None
    requested = evidence.promise.returns == "requested"
    if evidence.ended_by_trial or (requested and _outlived(evidence)):
        return (
            "LEAKED",
            _fact(evidence),
            "look at the process before success is reported: wait for its end with a deadline",
        )
    if requested:
        return None
    return (
        "EARLY",
        _fact(evidence),
        "wait for the exit itself (pidfd, waitpid), not for something that comes before it",
    )


def _claimed_failure(evidence: Evidence) -> Finding | None:
    if evidence.call.success or was_cancelled(evidence.call.error):
        return None
    if evidence.alive_at_return or evidence.ended_ns is None:
        return _gave_up(evidence)
    error = evidence.call.error
    if not _could_know(evidence):
        return None
    died = f"the VM was dead since {evidence.stamp(evidence.ended_ns)}"
    if error is not None:
        contract = "an end of the VM is what was asked for: don't raise for it"
        return "RAISED", died, MEND if is_mistake(error) else contract
    return "LIED", died, "look at the process once more before a failure is reported"


def _could_know(evidence: Evidence) -> bool:
    """Whether the routine could know, when it reported a failure, that the VM had ended."""
    ended_ns = evidence.ended_ns
    assert ended_ns is not None
    held_up = evidence.held_up(ended_ns, evidence.returned_ns)
    if evidence.returned_ns - ended_ns - held_up >= TOLERANCE * 1e9 or evidence.knew_the_end:
        return True
    error = evidence.call.error
    # a wait that has run out may have done so just before the end came; nothing else is so excused
    return error is not None and evidence.ended_at_return and not means_timeout(error)


def _gave_up(evidence: Evidence) -> Finding | None:
    """A failure before the promised time was over, of a VM that kept its part of the promise."""
    promise, deadline_ns = evidence.promise, evidence.flush_deadline_ns
    error = evidence.call.error
    excused = promise.nowait or promise.returns == "requested" or not promise.survive_asked
    if excused or deadline_ns is None or evidence.exit_ns is None or evidence.ended_by_trial:
        return None
    by_return = error is None and attribute(evidence.call.result, "errno") is None
    if not by_return and not (error is not None and means_timeout(error)):
        return None
    early, tolerance = deadline_ns - evidence.returned_ns, int(TOLERANCE * 1e9)
    in_time = evidence.exit_ns <= deadline_ns + tolerance
    if early <= tolerance or not in_time or evidence.killed_ns is not None:
        return None
    exited = f"the VM exited at {evidence.stamp(evidence.exit_ns)}, within the"
    return (
        "GAVE UP",
        f"{exited} {promise.survive:.2f} s to survive; it gave up {early / 1e9:.2f} s too early",
        f"wait for at least {promise.survive:.2f} s after the request before a failure is reported",
    )


def _cancelled(evidence: Evidence) -> Finding | None:
    """A call that was cancelled claims nothing; what it leaves behind has to end all the same."""
    if not was_cancelled(evidence.call.error) or not evidence.alive_at_return:
        return None
    if evidence.requests and not evidence.ended_by_trial:
        return None
    asked = "was asked and did not end" if evidence.requests else "was never asked to stop"
    return (
        "LEAKED",
        f"the VM {asked}, and lives on",
        "let the cancellation out only when the VM has been asked to stop",
    )


def _claimed_signal(evidence: Evidence) -> Finding | None:
    """Forced and graceful mixed up; only for results that say which signal ended the VM."""
    claimed = attribute(evidence.call.result, "signal")
    dead = attribute(evidence.call.result, "dead")
    if not isinstance(claimed, int) or not dead or evidence.exit is None or evidence.ended_by_trial:
        return None
    by_kill = evidence.exit.signal == SIGKILL
    if evidence.exit.code is None and evidence.exit.signal is None:
        return None
    if by_kill == (claimed == SIGKILL) or (
        claimed == SIGKILL and _was_killed_at_its_exit(evidence)
    ):
        return None
    signum, at_ns = evidence.exit.signal, round(evidence.exit.at * 1e9)
    how = f"exited {evidence.exit.code}" if signum is None else f"ended by {signal_name(signum)}"
    return (
        "LIED",
        f"it claims {signal_name(claimed)}; the VM {how} at {evidence.stamp(at_ns)}",
        "report SIGKILL only when it was sent, and only when the VM had not exited before",
    )


def _was_killed_at_its_exit(evidence: Evidence) -> bool:
    """Whether SIGKILL came when the VM had said its last word, and its process was still there.

    On a machine that is too busy that takes long; which of the two ended it nobody knows.
    """
    exit_ns, ended_ns = evidence.exit_ns, evidence.ended_ns
    return (
        exit_ns is not None
        and ended_ns is not None
        and any(
            signal.signum == SIGKILL and signal.reached_vm and exit_ns <= signal.at_ns <= ended_ns
            for signal in evidence.signals
        )
    )


def _restarted(evidence: Evidence) -> Finding | None:
    if not evidence.restarts:
        return None
    first = evidence.restarts[0]
    times = f", {len(evidence.restarts)} times in all" if len(evidence.restarts) > 1 else ""
    at = evidence.stamp(first.at_ns)
    return (
        "RESTARTED",
        f"the VM was started again at {at} as pid {first.pid} by {first.by}{times}",
        "tell what supervises the VM that it is to stay down, before the VM is stopped",
    )
