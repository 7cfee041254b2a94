"""Did the other threads go on while the routine waited?

A contender stands still when it waits, directly or behind others, for a lock that a thread in the
routine holds. The chain is followed through the recorded holds and waits, so that a slow machine,
or a contender that waits for another one, is no finding. Only traced locks are seen; contenders
that were handed in are judged by their latency, beside their own before the call.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gracekill.counted import counted
from pytest_gracekill.report import NotJudged, Verdict
from pytest_gracekill.witness.event_loop import PULSE, LoopContender

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gracekill.verdicts.evidence import Contending, Evidence
    from pytest_gracekill.witness.history import Hold, Wait

#: A latency counts from so many times the contender's own longest before the call.
WORSE = 5

#: From here on a stall is told in whole milliseconds.
SHORTEST_SHOWN = 0.010


def judge(evidence: Evidence) -> Verdict | NotJudged:
    """Broken when a contender was held up by the routine for more than half of its wait."""
    evidence = evidence.whole
    if not evidence.contenders:
        return NotJudged(name="progress", reason="no contenders took part")
    deadlocks = () if evidence.lock_state is None else evidence.lock_state.deadlocks
    if deadlocks:
        # what a contender has raised before may be what has led to it
        return _raised(evidence, before_ns=deadlocks[0].at_ns) or NotJudged(
            name="progress", reason="a deadlock was broken up, which ended contenders"
        )
    for finding in (_raised, _silent, _held_up, _slow):
        verdict = finding(evidence)
        if verdict is not None:
            return verdict
    during = longest(evidence, during=True)
    before = longest(evidence, during=False)
    return Verdict(
        name="progress",
        status="ok",
        word="ok",
        evidence=f"{_everybody(evidence)}, longest stall {_ms(during)} during the"
        f" wait ({_ms(before)} before it)",
    )


def _raised(evidence: Evidence, before_ns: int | None = None) -> Verdict | None:
    for contender in evidence.contenders:
        if before_ns is not None and (contender.raised_ns or before_ns) >= before_ns:
            continue
        if contender.error is not None:
            what = f"{type(contender.error).__name__}: {contender.error}"
            at = "" if contender.raised_ns is None else f" at {evidence.stamp(contender.raised_ns)}"
            return _stalled(f"{contender.name} raised {what}{at}")
    return None


def _silent(evidence: Evidence) -> Verdict | None:
    if any(contender.operations for contender in evidence.contenders):
        return None
    return Verdict(
        name="progress",
        status="unknown",
        word="unknown",
        evidence=f"{_everybody(evidence)} completed no operation at all",
    )


def _held_up(evidence: Evidence) -> Verdict | None:
    stalls = find_stalls(evidence)
    if not stalls:
        return None
    # the longest chain tells most: who stood behind whom
    worst = max(stalls, key=lambda stall: (len(stall.chain), stall.blocked_ns))
    return _stalled(
        f"{len(stalls)} of {_everybody(evidence)} stood still; {worst.contender} for"
        f" {worst.blocked_ns / 1e9:.3f} s of {evidence.own_wait:.3f} s",
        "why it waited:",
        *(f"  {line}" for line in describe(worst, evidence)),
        advice="let the lock go before the first sleep, and take it again at the end",
    )


def _slow(evidence: Evidence) -> Verdict | None:
    """Contenders whose waits can't be traced: broken by a latency far beyond their own."""
    contender = too_slow(evidence)
    if contender is None:
        return None
    during = _longest_of(contender, evidence, during=True)
    before = _longest_of(contender, evidence, during=False)
    stood = contender.stood_in if isinstance(contender, LoopContender) else ()
    return _stalled(
        f"{contender.name} took {during:.3f} s during the wait, {_ms(before)} before it;"
        f" {evidence.promise.stall_limit:.2f} s are allowed",
        *(("it stood here, innermost call first:",) if stood else ()),
        *(f"  {frame}" for frame in stood),
        advice="await what takes its time: a call that blocks stops the whole event loop"
        if contender.name == PULSE
        else "let the lock go before the first sleep, and take it again at the end",
    )


def too_slow(evidence: Evidence) -> Contending | None:
    """The contender whose latency says that it was held up, if there is one."""
    by_latency = [contender for contender in evidence.contenders if contender.by_latency]
    # a loop that stands still holds up all that works in it
    for contender in sorted(by_latency, key=lambda contender: contender.name != PULSE):
        during = _longest_of(contender, evidence, during=True)
        before = _longest_of(contender, evidence, during=False)
        if during > max(evidence.promise.stall_limit, WORSE * before):
            return contender
    return None


def _stalled(evidence: str, *detail: str, advice: str = "") -> Verdict:
    return Verdict(
        name="progress",
        status="broken",
        word="STALLED",
        evidence=evidence,
        detail=detail,
        advice=advice,
    )


def longest(evidence: Evidence, *, during: bool) -> float:
    """The longest operation of any contender, in seconds, during the wait or before it."""
    evidence = evidence.whole
    return max(_longest_of(someone, evidence, during=during) for someone in evidence.contenders)


def _longest_of(contender: Contending, evidence: Evidence, *, during: bool) -> float:
    spans = [0]
    for started, ended in contender.spans:
        if not during and started < evidence.called_ns < ended:
            # what it had taken already was its own
            spans.append(evidence.called_ns - started)
        overlaps = ended > evidence.called_ns and started < evidence.returned_ns
        if during and overlaps:
            start = max(started, evidence.called_ns)
            spans.append(min(ended, evidence.returned_ns) - start)
        elif not during and ended <= evidence.called_ns:
            spans.append(ended - started)
    return max(spans) / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link of a chain: who waited for which lock, held by whom."""

    wait: Wait
    hold: Hold


_NOBODY: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """A contender that was held up by the routine: how long, and its longest chain of waits."""

    contender: str
    blocked_ns: int
    chain: tuple[Link, ...]


def find_stalls(evidence: Evidence) -> list[Stall]:
    """The contenders that the routine held up for more than half of its wait, in their order."""
    if not evidence.waited:
        return []
    blame = _Blame(evidence)
    most = evidence.own_wait * 1e9 / 2
    stalls = []
    for contender in evidence.contenders:
        blocked, chain = blame.of(contender.actor)
        if blocked > most:
            stalls.append(Stall(contender=contender.name, blocked_ns=blocked, chain=chain))
    return stalls


def describe(stall: Stall, evidence: Evidence) -> Iterator[str]:
    """The chain as people read it: who waits for which lock, held by whom, since when."""
    for link in stall.chain:
        waiter = evidence.named(link.wait.actor)
        holder = evidence.named(link.hold.actor)
        yield (
            f"{waiter} waited for {link.wait.lock} from {evidence.stamp(link.wait.since_ns)},"
            f" held by {holder} {evidence.since(link.hold)}"
        )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds >= SHORTEST_SHOWN else f"{seconds * 1e3:.1f} ms"


class _Blame:
    """How long an actor waited on a chain of locks that ends at the routine's thread."""

    def __init__(self, evidence: Evidence) -> None:
        self._routine = evidence.routine_actors
        self._held_up = evidence.held_up
        self._start = evidence.called_ns
        self._end = evidence.returned_ns
        self._holds: dict[str, list[Hold]] = defaultdict(list)
        for hold in evidence.holds:
            self._holds[hold.lock].append(hold)
        for holds in self._holds.values():
            holds.sort(key=lambda hold: hold.acquired_ns)
        self._acquired = {
            lock: [hold.acquired_ns for hold in holds] for lock, holds in self._holds.items()
        }
        self._waits: dict[str, list[Wait]] = defaultdict(list)
        for wait in evidence.waits:
            self._waits[wait.actor].append(wait)

    def of(self, actor: str) -> tuple[int, tuple[Link, ...]]:
        """Nanoseconds that the routine cost this actor, and the chain of its longest wait."""
        return self._waiting(actor, self._start, self._end, frozenset())

    def _waiting(
        self, actor: str, start: int, end: int, seen: frozenset[str]
    ) -> tuple[int, tuple[Link, ...]]:
        total = 0
        worst: tuple[int, tuple[Link, ...]] = (0, ())
        for wait in self._waits[actor]:
            since, until = max(wait.since_ns, start), min(wait.until_ns or end, end)
            if until <= since:
                continue
            for hold in self._overlapping(wait.lock, since, until):
                begin = max(hold.acquired_ns, since)
                finish = min(hold.released_ns or until, until)
                if hold.actor in self._routine:
                    blocked, behind = finish - begin - self._held_up(begin, finish), _NOBODY
                elif hold.actor == actor or hold.actor in seen:
                    continue
                else:
                    blocked, behind = self._waiting(hold.actor, begin, finish, seen | {actor})
                total += blocked
                if blocked > worst[0]:
                    worst = (blocked, (Link(wait=wait, hold=hold), *behind))
        return total, worst[1]

    def _overlapping(self, lock: str, since: int, until: int) -> Iterator[Hold]:
        holds = self._holds[lock]
        # a mutex has one holder at a time: only the last hold that began before can reach in
        first = max(bisect_left(self._acquired.get(lock, []), since) - 1, 0)
        for hold in holds[first:]:
            if hold.acquired_ns >= until:
                return
            if (hold.released_ns or until) > since:
                yield hold


def _everybody(evidence: Evidence) -> str:
    return counted(len(evidence.contenders), "contender")
