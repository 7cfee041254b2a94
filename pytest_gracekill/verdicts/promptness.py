"""How long after the VM's exit did the routine return?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_gracekill.report import NotJudged, Verdict
from pytest_gracekill.verdicts.disturbed import unknown
from pytest_gracekill.verdicts.views import worst

#: Threads, or processes, that a report has room for.
_SHOWN = 12

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gracekill.verdicts.evidence import Evidence
    from pytest_gracekill.witness.process_tree import CommandSeen


def judge(evidence: Evidence) -> Verdict | NotJudged:
    """Broken when it returned more than ``slack`` after the exit, or not within its budget."""
    return worst(evidence, _judge)


def _stood(evidence: Evidence) -> Iterator[str]:
    """Where the call stood, and every other thread beside it."""
    if evidence.hung_in:
        yield "it hung here, innermost call first:"
        yield from (f"  {frame}" for frame in evidence.hung_in)
    if evidence.hung_command is not None:
        yield from _command(evidence.hung_command)
    for actor, stack in evidence.beside[:_SHOWN]:
        yield f"{evidence.named(actor)} stood in:"
        yield from (f"  {frame}" for frame in stack)
    if len(evidence.beside) > _SHOWN:
        yield f"and {len(evidence.beside) - _SHOWN} more threads"


def _command(seen: CommandSeen) -> Iterator[str]:
    """What the stop command had printed, and the processes that it consisted of."""
    if seen.output:
        yield "its stop command had printed:"
        yield from (f"  {line}" for line in seen.output)
    else:
        yield "its stop command had printed nothing"
    if seen.processes:
        yield "its processes, each below its parent:"
        for process in seen.processes[:_SHOWN]:
            yield f"  {'  ' * process.depth}{process}"
        if len(seen.processes) > _SHOWN:
            yield f"and {len(seen.processes) - _SHOWN} more processes"


def _where(evidence: Evidence) -> str:
    if evidence.hung_in:
        return f" in {evidence.hung_in[0]}"
    return " in its stop command" if evidence.hung_command is not None else ""


def _judge(evidence: Evidence) -> Verdict:
    found = _found(evidence)
    if found.status == "ok":
        return found
    disturbed = unknown(evidence, "promptness", doubted=True, before=f"{found.evidence}; ")
    return found if disturbed is None else replace(disturbed, detail=found.detail)


def _found(evidence: Evidence) -> Verdict:
    if evidence.hung:
        return Verdict(
            name="promptness",
            status="broken",
            word="HUNG",
            evidence=f"cut off after its budget of {evidence.promise.budget:.1f} s"
            f"{_where(evidence)}",
            detail=tuple(_stood(evidence)),
            advice="give every wait a deadline",
        )
    if evidence.alive_at_return or evidence.exit_ns is None or evidence.ended_ns is None:
        return Verdict(
            name="promptness",
            status="ok",
            word="ok",
            evidence=f"returned after {evidence.wait:.3f} s, in its budget; the VM had not exited",
        )
    # a VM that was dead before the call can't be noticed before the call
    lag = (evidence.returned_ns - max(evidence.exit_ns, evidence.called_ns)) / 1e9
    text = f"{max(lag, 0.0) * 1e3:.1f} ms after the exit"
    gone_ns = max(evidence.ended_ns, evidence.called_ns)
    held_up = evidence.held_up(gone_ns, evidence.returned_ns) / 1e9
    since_gone = (evidence.returned_ns - gone_ns) / 1e9 - held_up
    if held_up:
        text += f", of which it was held for {held_up * 1e3:.1f} ms"
    if since_gone <= evidence.promise.slack < lag - held_up:
        slow = (evidence.ended_ns - evidence.exit_ns) / 1e9
        text += f", for which a starved machine took {slow:.3f} s"
    if since_gone <= evidence.promise.slack:
        return Verdict(name="promptness", status="ok", word="ok", evidence=text)
    return Verdict(
        name="promptness",
        status="broken",
        word="SLOW",
        evidence=f"returned {lag:.3f} s after the exit; {evidence.promise.slack:.2f} s are allowed",
        advice="wait on the exit itself (pidfd) rather than sleep for a fixed time",
    )
