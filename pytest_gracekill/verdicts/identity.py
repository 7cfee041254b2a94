"""Was it the right VM, did it still exist, and was it cleaned up once?

Seen are the domains of the model, and the signals to their runs. A manager's own objects are not:
what becomes of those its own tests have to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.data.requests import signal_name
from pytest_gracekill.report import NotJudged, Verdict
from pytest_gracekill.verdicts.findings import folded
from pytest_gracekill.witness.signals import OTHER_RUN

if TYPE_CHECKING:
    from pytest_gracekill.verdicts.evidence import Evidence
    from pytest_gracekill.verdicts.findings import Finding
    from pytest_gracekill.witness.identity import CleanUp, FreedUse


def judge(evidence: Evidence) -> Verdict | NotJudged:
    """Broken by what reached another run, a use after the last reference, a second clean-up."""
    if evidence.identity is None:
        return NotJudged(name="identity", reason="the routine takes no driver")
    broken = folded("identity", (_wrong_vm(evidence), _freed(evidence), _twice(evidence)))
    if broken is not None:
        return broken
    acts = evidence.acts
    if acts.missed or acts.failed:
        points = ", ".join(repr(point) for point in acts.missed)
        missed = f"the routine did not come to {points}, where something was to be done"
        return Verdict(
            name="identity",
            status="unknown",
            word="unknown",
            evidence="; ".join((*((missed,) if points else ()), *acts.failed)),
        )
    times = len([c for c in evidence.identity.clean_ups if c.domain == evidence.identity.domain])
    told = {0: "not cleaned up", 1: "cleaned up once"}.get(times, f"cleaned up {times} times")
    return Verdict(
        name="identity",
        status="ok",
        word="ok",
        evidence=f"domain {evidence.identity.domain} was {told}; no run but the right"
        " one was touched",
    )


def _wrong_vm(evidence: Evidence) -> Finding | None:
    seen = evidence.identity
    assert seen is not None
    advice = "note the run (id, pid, start time) before the first unlock, and compare it after"
    for signal in evidence.signals:
        if signal.other_run:
            where = f" ({signal.site})" if signal.site else ""
            what = f"{signal_name(signal.signum)} to {signal.target}"
            return "WRONG VM", f"{what} at {evidence.stamp(signal.at_ns)}{where}", advice
    if seen.other_hit is not None:
        # by a command, or by C code: nobody saw it being sent
        at_ns, signum = seen.other_hit
        what = f"{signal_name(signum)} to {OTHER_RUN}"
        return "WRONG VM", f"{what} at {evidence.stamp(at_ns)}, by its journal", advice
    for clean_up in seen.clean_ups:
        run = clean_up.incarnation
        if clean_up.domain == seen.domain and run is not None and run != seen.incarnation:
            what = f"the VM that was started meanwhile (incarnation {run}, not {seen.incarnation})"
            return "WRONG VM", f"{_told(evidence, clean_up)} cleaned up {what}", advice
    return None


def _freed(evidence: Evidence) -> Finding | None:
    seen = evidence.identity
    assert seen is not None
    if not seen.uses:
        return None
    first = seen.uses[0]
    what = f"domain {first.domain} ({first.what}) after its last reference was dropped"
    return (
        "FREED",
        f"{_told(evidence, first)} used {what}",
        "take a reference before the first unlock, and drop it when the domain is done with",
    )


def _twice(evidence: Evidence) -> Finding | None:
    seen = evidence.identity
    assert seen is not None
    earlier: CleanUp | None = None
    for clean_up in seen.clean_ups:
        if clean_up.domain != seen.domain:
            continue
        if clean_up.incarnation is None:
            by = "" if earlier is None else f" after {_told(evidence, earlier)}"
            return (
                "TWICE",
                f"{_told(evidence, clean_up)} cleaned up domain {seen.domain} again{by}",
                "set the guard flag before the first unlock; look again when the locks are back",
            )
        earlier = clean_up
    return None


def _told(evidence: Evidence, event: FreedUse | CleanUp) -> str:
    where = f", {event.site}" if event.site else ""
    return f"{evidence.named(event.actor)} (at {evidence.stamp(event.at_ns)}{where})"
