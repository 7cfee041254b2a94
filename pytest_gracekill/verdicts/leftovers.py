"""What is still there after the routine reported success?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.counted import counted
from pytest_gracekill.report import NotJudged, Verdict
from pytest_gracekill.verdicts.disturbed import unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gracekill.verdicts.evidence import Evidence
    from pytest_gracekill.verdicts.findings import Finding
    from pytest_gracekill.witness.leftovers import Leftovers, Resource


#: What to do about each thing that is left, and why.
_ADVICE: dict[Resource, str] = {
    "disk lock": "wait until the disk's lock is free before success is reported: until then the"
    " next start of the VM fails to get it",
    "QMP socket": "remove the QMP socket when the VM has ended: the next QEMU would replace it, but"
    " until then a client that finds it is refused",
    "pid file": "remove the pid file when the VM has ended, as QEMU can only when it exits by"
    " itself: the number in it may soon be another process's",
}
_STOP: dict[str, str] = {
    "helper": "stop the VM's helper processes too, when the VM has ended",
    "wrapper": "wait for the end of the process that started the VM too, or stop it",
}


def judge(evidence: Evidence) -> Verdict | NotJudged:
    """Broken by descendants that live on, and by a resource of the VM that outlives it.

    Resources are the disk lock, and of a VM that the trial knows to have them, the QMP socket and
    the pid file.
    """
    seen = evidence.leftovers
    if seen is None:
        return NotJudged(name="leftovers", reason="the routine did not report that the VM is gone")
    if evidence.restarts:
        return NotJudged(name="leftovers", reason="the VM was started again")
    found = [*_orphans(seen), *_locked(seen)]
    if not found:
        started = counted(seen.started, "process", "processes")
        return Verdict(
            name="leftovers", status="ok", word="ok", evidence=f"{started} started, 0 alive"
        )
    disturbed = unknown(evidence, "leftovers", doubted=True, before=_texts(found))
    if disturbed is not None:
        return disturbed
    words = [word for word, _, _ in found]
    return Verdict(
        name="leftovers",
        status="broken",
        word=words[0],
        also=tuple(words[1:]),
        evidence="; ".join(text for _, text, _ in found),
        advice="; ".join(advice for _, _, advice in found),
    )


def _texts(found: list[Finding]) -> str:
    return "".join(f"{text}; " for _, text, _ in found)


def _orphans(seen: Leftovers) -> Iterator[Finding]:
    if seen.orphans:
        alive = ", ".join(str(orphan) for orphan in seen.orphans)
        roles = dict.fromkeys(orphan.role for orphan in seen.orphans)
        yield (
            "ORPHANS",
            f"{len(seen.orphans)} of {seen.started} processes alive: {alive}",
            "; ".join(_STOP[role] for role in roles),
        )


def _locked(seen: Leftovers) -> Iterator[Finding]:
    if seen.locked:
        yield (
            "LOCKED",
            " and ".join(str(held) for held in seen.locked),
            "; ".join(_ADVICE[held.what] for held in seen.locked),
        )
