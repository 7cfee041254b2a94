"""What is left to say of a trial that others have disturbed: what is certain all the same.

Somebody outside of the trial may kill the VM, damage its files, or kill a process of ours. None of
that is the routine's doing. A verdict that it touches is ``unknown``, with the cause; a finding
that does not depend on it stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.data.disturbances import Disturbance
from pytest_gracekill.report import Verdict
from pytest_gracekill.verdicts.requests import deadly

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_gracekill.data.disturbances import What
    from pytest_gracekill.data.requests import Deadly, Request
    from pytest_gracekill.verdicts.evidence import Evidence
    from pytest_gracekill.verdicts.findings import Finding

#: The verdicts that have nothing to go by, whatever was found, by what has disturbed the trial.
_NOTHING_TO_GO_BY: dict[What, tuple[str, ...]] = {
    "signal": ("data", "escalation"),
    "request": (),
    "fault": ("data",),
    "journal": ("data", "escalation"),
    "process": ("outcome",),
}

#: The verdicts whose findings can come of it.
_TOUCHED: dict[What, tuple[str, ...]] = {
    "signal": ("data", "escalation", "outcome", "leftovers"),
    "request": ("data",),
    "fault": ("data", "escalation", "outcome", "leftovers"),
    "journal": ("data", "escalation", "outcome"),
    "process": ("data", "escalation", "outcome", "promptness", "leftovers"),
}

#: What was seen to be wrong before, or apart from it.
_CERTAIN: dict[What, frozenset[str]] = {
    "signal": frozenset(("STRANGER", "REPEATED", "EARLY", "LEAKED", "GAVE UP")),
    "request": frozenset(),
    "fault": frozenset(("STRANGER", "REPEATED", "EARLY")),
    "journal": frozenset(("STRANGER", "EARLY", "LIED", "RAISED")),
    "process": frozenset(("STRANGER", "REPEATED")),
}

#: What a signal that the recorder saw shows by itself, where only a process of ours was lost.
_RECORDED = frozenset(("KILLED ANYWAY", "KILLED EARLY", "NEVER ASKED"))


def disturbances(evidence: Evidence) -> Iterator[Disturbance]:
    """Everything that others have done to this trial, but for what they did to the disk."""
    killed = deadly(evidence)
    if killed is not None and killed.sender == "oom":
        yield Disturbance(what="signal", by="machine", text=_out_of_memory(evidence, killed))
    elif killed is not None and killed.sender == "outside":
        yield Disturbance(
            what="signal",
            by="outside",
            text=f"{killed} ended the VM at {evidence.stamp(killed.at_ns)}, and nobody saw it"
            " being sent: it seems to have come from outside",
        )
    yield from evidence.damage
    for request in evidence.requests:
        if request.outside is not None:
            yield Disturbance(what="request", by="outside", text=requested(evidence, request))


def requested(evidence: Evidence, request: Request) -> str:
    """Who requested the VM to stop, where that was nobody of the trial."""
    at = evidence.stamp(request.at_ns)
    return (
        f"{request} reached the VM at {at} from pid {request.outside}, which is no process of the"
        " trial"
    )


def _out_of_memory(evidence: Evidence, killed: Deadly) -> str:
    return (
        f"{killed} ended the VM at {evidence.stamp(killed.at_ns)}, nobody of the trial was seen to"
        " send it, and the kernel has killed for memory in this cgroup meanwhile (oom_kill"
        f" +{evidence.suspects.oom_kills})"
    )


def disturbance(evidence: Evidence, name: str) -> Disturbance | None:
    """What has touched this verdict, the first thing; None where nothing has."""
    found = [each for each in disturbances(evidence) if name in _TOUCHED[each.what]]
    return next((each for each in found if name in _NOTHING_TO_GO_BY[each.what]), None) or next(
        iter(found), None
    )


def certain(evidence: Evidence, name: str, found: Iterable[Finding | None]) -> list[Finding]:
    """Those findings of a verdict that hold whatever others have done to the trial."""
    findings = [finding for finding in found if finding is not None]
    for each in disturbances(evidence):
        if name in _TOUCHED[each.what]:
            words = _CERTAIN[each.what]
            killed = deadly(evidence)
            if each.what == "process" and killed is not None and killed.seen:
                words |= _RECORDED
            findings = [finding for finding in findings if finding[0] in words]
    return findings


def unknown(evidence: Evidence, name: str, *, doubted: bool, before: str = "") -> Verdict | None:
    """The verdict where the trial was disturbed so that it has nothing to go by.

    :param doubted: something was found that is not certain.
    :param before: what the evidence begins with.
    """
    by = disturbance(evidence, name)
    if by is None or not (doubted or name in _NOTHING_TO_GO_BY[by.what]):
        return None
    return Verdict(
        name=name, status="unknown", word="unknown", evidence=f"{before}{by}", cause=by.by
    )
