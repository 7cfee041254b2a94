"""When and where each broken word can be seen: what a picture of the trial points at.

One function a word, of the same evidence from which the verdict was concluded. A word of which no
moment is known (a loss that nobody saw happen) has none; that is no fault of the verdict.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_gracekill.child.disk import ranges
from pytest_gracekill.data.requests import signal_name
from pytest_gracekill.data.words import named
from pytest_gracekill.report import Moment
from pytest_gracekill.verdicts.escalation import unheard_text
from pytest_gracekill.verdicts.locks import over_wait
from pytest_gracekill.verdicts.progress import find_stalls, kept_interpreter, never_back, too_slow
from pytest_gracekill.verdicts.requests import deadly, unheard
from pytest_gracekill.witness.contenders import described

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.report import Verdict
    from pytest_gracekill.verdicts.evidence import Evidence

    Shown = Iterator[Moment]

#: As many of one word as a picture can show apart.
_MOST = 24


def with_moments(verdict: Verdict, evidence: Evidence) -> Verdict:
    """The verdict, and when and where its broken words can be seen."""
    if verdict.status != "broken":
        return verdict
    view = next(
        (v for v in evidence.views if v.caller and verdict.evidence.startswith(v.caller)), evidence
    )
    moments: list[Moment] = []
    for told in (verdict.word, *verdict.also):
        word = named(told)
        if word is not None:
            found = [replace(moment, word=word.name) for moment in MOMENTS[word.name](view)]
            moments += found[:_MOST]
    return replace(verdict, moments=tuple(moments))


def _moment(lane: str, at_ns: int, text: str, until_ns: int | None = None) -> Moment:
    return Moment(word="", lane=lane, at_ns=at_ns, until_ns=until_ns, text=text)


def _thread(evidence: Evidence) -> str:
    return f"thread {evidence.routine_actor}"


# -- data: what is lost is lost when the VM ends


def _damage(kind: str, what: str) -> Callable[[Evidence], Shown]:
    def shown(evidence: Evidence) -> Shown:
        at_ns = evidence.killed_ns or evidence.exit_ns or evidence.returned_ns
        blocks: list[int] = getattr(evidence.audit, kind)
        yield _moment("fake", at_ns, f"blocks {ranges(blocks)} {what}")

    return shown


# -- escalation


def _killed(evidence: Evidence) -> Shown:
    killed = deadly(evidence)
    if killed is not None:
        grace = evidence.grace_given
        after = "" if grace is None else f", {grace:.2f} s after the first request to stop"
        yield _moment("signals", killed.at_ns, f"{killed}{after}")


def _never_asked(evidence: Evidence) -> Shown:
    killed = deadly(evidence)
    if killed is not None:
        yield _moment("signals", killed.at_ns, f"{killed}, and no request to stop before it")
    else:
        text = "it returned, and no request to stop had reached the VM"
        yield _moment(_thread(evidence), evidence.returned_ns, text)


def _unheard(evidence: Evidence) -> Shown:
    request = unheard(evidence)
    if request is not None:
        yield _moment("signals", request.at_ns, unheard_text(request))


def _never_killed(evidence: Evidence) -> Shown:
    yield _moment(_thread(evidence), evidence.returned_ns, "it returned, and SIGKILL never came")


def _repeated(evidence: Evidence) -> Shown:
    for request in evidence.requests[1:]:
        yield _moment("signals", request.at_ns, "one more request to stop")


def _stranger(evidence: Evidence) -> Shown:
    for signal in evidence.signals:
        if signal.refused:
            yield _moment(
                "signals", signal.at_ns, f"{signal_name(signal.signum)} to {signal.target}, refused"
            )
    for entry in evidence.journal:
        if entry.event == "stranger_hit":
            yield _moment("signals", entry.at_ns, "a process got it that has the VM's pid since")


# -- outcome and promptness: at the return


def _at_return(evidence: Evidence) -> Shown:
    yield _moment(_thread(evidence), evidence.returned_ns, str(evidence.call))


def _slow(evidence: Evidence) -> Shown:
    since = max(evidence.ended_ns or evidence.called_ns, evidence.called_ns)
    text = f"the VM was gone for {(evidence.returned_ns - since) / 1e9:.3f} s when it returned"
    yield _moment(_thread(evidence), since, text, evidence.returned_ns)


def _hung(evidence: Evidence) -> Shown:
    where = f" in {evidence.hung_in[0]}" if evidence.hung_in else ""
    yield _moment(_thread(evidence), evidence.returned_ns, f"cut off{where}")


def _gave_up(evidence: Evidence) -> Shown:
    yield _moment(_thread(evidence), evidence.returned_ns, str(evidence.call), evidence.exit_ns)


def _restarted(evidence: Evidence) -> Shown:
    for start in evidence.restarts:
        yield _moment("fake", start.at_ns, f"started again as pid {start.pid} by {start.by}")


# -- locks


def _deadlock(evidence: Evidence) -> Shown:
    state = evidence.lock_state
    for deadlock in () if state is None else state.deadlocks:
        for thread in deadlock.threads:
            text = evidence.named(str(deadlock))
            yield _moment(f"thread {thread}", deadlock.at_ns, text)


def _lock_order(evidence: Evidence) -> Shown:
    state = evidence.lock_state
    for cycle in () if state is None else state.cycles:
        for edge in cycle.edges:
            # one of another trial has no moment in this one
            if not edge.trial or edge.at_ns >= evidence.origin - int(60e9):
                yield _moment(f"lock {edge.asked}", edge.at_ns, evidence.named(str(edge)))


def _lock_lost(evidence: Evidence) -> Shown:
    state = evidence.lock_state
    if state is not None:
        lost = sorted({*state.at_entry} ^ {*state.at_return})
        for lock in lost:
            had = "held at entry and not" if lock in state.at_entry else "not held at entry and"
            yield _moment(f"lock {lock}", evidence.returned_ns, f"{lock}: {had} held at return")


def _held_over_wait(evidence: Evidence) -> Shown:
    for hold, seconds, waiters in over_wait(evidence):
        if waiters:
            yield _moment(
                f"lock {hold.lock}",
                max(hold.acquired_ns, evidence.called_ns),
                f"held for {seconds:.3f} s, wanted meanwhile by {', '.join(waiters)}",
                min(hold.released_ns or evidence.returned_ns, evidence.returned_ns),
            )


# -- progress


def _stalled(evidence: Evidence) -> Shown:
    whole = evidence.whole
    for contender in whole.contenders:
        if contender.error is not None and contender.raised_ns is not None:
            what = f"raised {described(contender.error)}"
            yield _moment(f"thread {contender.actor}", contender.raised_ns, what)
    for stall in find_stalls(whole):
        if not stall.chain:
            continue
        wait, behind = stall.chain[0].wait, stall.chain[0].hold
        yield _moment(
            f"thread {wait.actor}",
            max(wait.since_ns, whole.called_ns),
            f"stood still for {stall.blocked_ns / 1e9:.3f} s: waited for {wait.lock}, held by"
            f" {whole.named(behind.actor)}",
            min(wait.until_ns or whole.returned_ns, whole.returned_ns),
        )
    slow = too_slow(whole)
    if slow is not None and slow.spans:
        since, until = max(
            slow.spans,
            key=lambda span: min(span[1], whole.returned_ns) - max(span[0], whole.called_ns),
        )
        text = f"one operation took {(until - since) / 1e9:.3f} s"
        yield _moment(f"thread {slow.actor}", since, text, until)
    kept = kept_interpreter(whole)
    if kept is not None:
        yield _moment(_thread(whole), kept[0], "kept the interpreter lock", kept[1])
    late = never_back(whole)
    if late is not None and late.stuck is not None:
        text = f"had not come back {late.stuck.waited:.2f} s after the call"
        yield _moment(f"thread {late.actor}", late.stuck.since_ns, text)


# -- identity and leftovers


def _wrong_vm(evidence: Evidence) -> Shown:
    seen = evidence.identity
    for signal in evidence.signals:
        if signal.other_run:
            what = f"{signal_name(signal.signum)} to {signal.target}"
            yield _moment("signals", signal.at_ns, what)
    if seen is None:
        return
    if seen.other_hit is not None:
        at_ns, signum = seen.other_hit
        yield _moment("signals", at_ns, f"{signal_name(signum)} to the VM started meanwhile")
    for clean_up in seen.clean_ups:
        if clean_up.domain == seen.domain and clean_up.incarnation not in (None, seen.incarnation):
            text = f"cleaned up {evidence.named(str(clean_up))}"
            yield _moment(f"thread {clean_up.actor}", clean_up.at_ns, text)


def _freed(evidence: Evidence) -> Shown:
    for use in () if evidence.identity is None else evidence.identity.uses:
        text = f"used {use.what} of domain {use.domain} after its last reference"
        yield _moment(f"thread {use.actor}", use.at_ns, text)


def _twice(evidence: Evidence) -> Shown:
    seen = evidence.identity
    for clean_up in () if seen is None else seen.clean_ups:
        if seen is not None and clean_up.domain == seen.domain and clean_up.incarnation is None:
            text = f"cleaned up domain {clean_up.domain} again"
            yield _moment(f"thread {clean_up.actor}", clean_up.at_ns, text)


def _orphans(evidence: Evidence) -> Shown:
    seen = evidence.leftovers
    if seen is not None:
        alive = ", ".join(map(str, seen.orphans))
        yield _moment("fake", evidence.returned_ns, f"still alive: {alive}")


def _locked(evidence: Evidence) -> Shown:
    seen = evidence.leftovers
    if seen is not None:
        yield _moment("fake", evidence.returned_ns, "; ".join(map(str, seen.locked)))


MOMENTS: dict[str, Callable[[Evidence], Shown]] = {
    "DATA LOST": _damage("lost", "acknowledged, never on disk"),
    "TORN": _damage("torn", "half written"),
    "STALE": _damage("stale", "older on disk than was acknowledged"),
    "PHANTOM": _damage("phantom", "never written so by the guest"),
    "KILLED EARLY": _killed,
    "NEVER ASKED": _never_asked,
    "UNHEARD": _unheard,
    "KILLED ANYWAY": _killed,
    "NEVER KILLED": _never_killed,
    "REPEATED": _repeated,
    "STRANGER": _stranger,
    "LEAKED": _at_return,
    "LIED": _at_return,
    "RAISED": _at_return,
    "EARLY": _at_return,
    "GAVE UP": _gave_up,
    "RESTARTED": _restarted,
    "SLOW": _slow,
    "HUNG": _hung,
    "DEADLOCK": _deadlock,
    "LOCK ORDER": _lock_order,
    "LOCK LOST": _lock_lost,
    "HELD OVER WAIT": _held_over_wait,
    "STALLED": _stalled,
    "WRONG VM": _wrong_vm,
    "FREED": _freed,
    "TWICE": _twice,
    "ORPHANS": _orphans,
    "LOCKED": _locked,
}
"""Every broken word by what shows it."""
