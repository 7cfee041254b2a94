"""Did the other threads go on while the routine waited?

A contender stands still when it waits, directly or behind others, for a lock that a thread in the
routine holds. The chain is followed through the recorded holds and waits, so that a slow machine,
or a contender that waits for another one, is no finding. Only traced locks are seen; contenders
that were handed in are judged by their latency, beside their own before the call, without the time
in which the whole process stood still. A contender that has completed no operation, or whose chain
of waits ends at an unknown thread, shows nothing: the verdict is unknown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_gracekill.counted import counted
from pytest_gracekill.report import NotJudged, Verdict
from pytest_gracekill.witness.contenders import WORSE, described, longest_before
from pytest_gracekill.witness.event_loop import PULSE, LoopContender
from pytest_gracekill.witness.history import UNTRACED
from pytest_gracekill.witness.sites import raised_in
from pytest_gracekill.witness.standstill import overlap

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gracekill.verdicts.evidence import Contending, Evidence
    from pytest_gracekill.witness.history import Frame, Hold, Wait

#: From here on a stall is told in whole milliseconds.
SHORTEST_SHOWN = 0.010

#: What to change in a routine that holds up others.
RELEASE = "release the lock before waiting; reacquire it afterwards"

#: What to change where nobody knows who held a lock.
NAME_IT = (
    "have the lock taken through the object and attribute that locks= names; a reference captured"
    " before the trial (a default argument, a closure, a Condition kept elsewhere) is not traced"
)


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
    for finding in (_raised, _held_up, _slow, _kept, _never_back, _unseen):
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
        f" wait ({_ms(before)} before it){_not_counted(evidence)}",
    )


def _not_counted(evidence: Evidence) -> str:
    still = _still(evidence, evidence.called_ns, evidence.returned_ns) / 1e9
    return (
        f"; the whole process stood still for {still:.2f} s, which does not count" if still else ""
    )


def _raised(evidence: Evidence, before_ns: int | None = None) -> Verdict | None:
    for contender in evidence.contenders:
        if before_ns is not None and (contender.raised_ns or before_ns) >= before_ns:
            continue
        if contender.error is not None:
            raised_ns = contender.raised_ns
            frame = raised_in(contender.error)
            where = "" if frame is None else f" ({frame})"
            at = "" if raised_ns is None else f" at {evidence.stamp(raised_ns)}"
            early = raised_ns is not None and raised_ns < evidence.called_ns
            return _stalled(
                f"{contender.name} raised {described(contender.error)}{at}{where}"
                + (", before the routine was called" if early else ""),
                advice="the contender fails by itself: mend it first" if early else "",
            )
    return None


def _never_back(evidence: Evidence) -> Verdict | None:
    contender = never_back(evidence)
    if contender is None or contender.stuck is None:
        return None
    stuck, before = contender.stuck, _before(contender, evidence) or 0
    return _stalled(
        f"{contender.name} had not come back {stuck.waited:.2f} s after the call; before it, its"
        f" longest operation took {_ms(before)}",
        *_standing(stuck.stands_in),
        advice="release the lock on every path: return, error, exception",
    )


def never_back(evidence: Evidence) -> Contending | None:
    """The contender with a pace of its own that had not come back after the call, if any."""
    if evidence.hung:
        return None  # the routine itself was cut off
    for contender in evidence.contenders:
        stuck, before = contender.stuck, _before(contender, evidence)
        if stuck is None or stuck.deaf or contender.name == PULSE or before is None:
            continue
        limit = max(evidence.promise.stall_limit, WORSE * before)
        began = stuck.until_ns - int(stuck.waited * 1e9)
        waited = stuck.waited - _still(evidence, began, stuck.until_ns) / 1e9
        if waited >= limit and not _stood_before(contender, evidence):
            return contender
    return None


def _kept(evidence: Evidence) -> Verdict | None:
    """Broken when the routine's thread let no other go on, as a call in C can."""
    kept = kept_interpreter(evidence)
    if kept is None:
        return None
    start, end = kept
    return _stalled(
        f"no other thread went on for {(end - start) / 1e9:.3f} s from {evidence.stamp(start)}: the"
        " routine's thread kept the interpreter lock;"
        f" {evidence.promise.stall_limit:.2f} s are allowed",
        advice="make the call in C that does not release the interpreter lock in another process,"
        " or have it release the lock (ctypes.CDLL rather than PyDLL)",
    )


def kept_interpreter(evidence: Evidence) -> tuple[int, int] | None:
    """From when until when the routine's thread let no other go on, where that is too long.

    Between two operations a contender shows no latency; one that is in an operation shows its own.
    """
    by_latency = [contender for contender in evidence.contenders if contender.by_latency]
    spans = [span for contender in by_latency for span in contender.spans]
    for since, until in evidence.interpreter_kept:
        start, end = max(since, evidence.called_ns), min(until, evidence.returned_ns)
        if any(began <= start and ended >= end for began, ended in spans):
            continue
        for contender in by_latency:
            before = _longest_of(contender, evidence, during=False)
            if (end - start) / 1e9 > max(evidence.promise.stall_limit, WORSE * before):
                return start, end
    return None


def _unseen(evidence: Evidence) -> Verdict | None:
    """What was looked at and showed nothing: it is not ok."""
    everybody = [one for one in evidence.contenders if one.name != PULSE]
    if evidence.contenders and not any(one.operations for one in evidence.contenders):
        return _unknown(f"{_everybody(evidence)} completed no operation at all", *_where(everybody))
    for contender in everybody:
        stuck = contender.stuck
        if stuck is None:
            continue
        if stuck.deaf:
            text = "does not end when it is cancelled; it was ended by force"
            advice = "let CancelledError through, and end one operation after the other"
            return _unknown(f"{contender.name} {text}", *_where([contender]), advice=advice)
        if not contender.operations:
            text = "completed no operation at all, before the call, during it or after it"
        elif _stood_before(contender, evidence):
            text = f"stood still since {evidence.stamp(stuck.since_ns)}, before the call"
        else:
            text = f"had not come back {stuck.waited:.2f} s after the call"
        return _unknown(f"{contender.name} {text}", *_where([contender]))
    stalls = find_stalls(evidence, by=frozenset((UNTRACED,)))
    if stalls:
        worst = max(stalls, key=lambda stall: (len(stall.chain), stall.blocked_ns))
        return _unknown(
            f"{worst.contender} stood still for {worst.blocked_ns / 1e9:.3f} s of"
            f" {evidence.own_wait:.3f} s behind a lock that is held through a reference not traced",
            *(f"  {line}" for line in describe(worst, evidence)),
            advice=NAME_IT,
        )
    return None


def _where(contenders: Sequence[Contending]) -> tuple[str, ...]:
    stuck = [one.stuck for one in contenders if one.stuck is not None]
    return _standing(stuck[0].stands_in) if stuck else ()


def _standing(frames: Sequence[Frame]) -> tuple[str, ...]:
    if not frames:
        return ()
    return ("it stood here, innermost call first:", *(f"  {frame}" for frame in frames))


def _stood_before(contender: Contending, evidence: Evidence) -> bool:
    """Whether its last operation had taken too long already when the routine was called."""
    if contender.stuck is None:
        return False
    since = contender.stuck.since_ns
    before = evidence.called_ns - since - _still(evidence, since, evidence.called_ns)
    return (
        before
        > max(evidence.promise.stall_limit, WORSE * (_before(contender, evidence) or 0)) * 1e9
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
        advice=RELEASE,
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
        *_standing(stood),
        advice="await what takes its time: a call that blocks stops the whole event loop"
        if contender.name == PULSE
        else RELEASE,
    )


def too_slow(evidence: Evidence) -> Contending | None:
    """The contender whose latency says that it was held up, if there is one."""
    by_latency = [contender for contender in evidence.contenders if contender.by_latency]
    # a loop that stands still holds up all that works in it
    for contender in sorted(by_latency, key=lambda contender: contender.name != PULSE):
        during = _longest_of(contender, evidence, during=True)
        before = _longest_of(contender, evidence, during=False)
        if during > max(evidence.promise.stall_limit, WORSE * before):
            stuck = contender.stuck
            if stuck is not None and (stuck.deaf or _stood_before(contender, evidence)):
                continue  # it never ends by itself, or stood before the call
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


def _unknown(evidence: str, *detail: str, advice: str = "") -> Verdict:
    stalled = _stalled(evidence, *detail, advice=advice)
    return replace(stalled, status="unknown", word="unknown")


def longest(evidence: Evidence, *, during: bool) -> float:
    """The longest operation of any contender, in seconds, during the wait or before it."""
    evidence = evidence.whole
    return max(_longest_of(someone, evidence, during=during) for someone in evidence.contenders)


def _longest_of(contender: Contending, evidence: Evidence, *, during: bool) -> float:
    called, returned = evidence.called_ns, evidence.returned_ns
    if not during:
        # of the operation that it was in, what it had taken already was its own
        in_flight = [(start, called) for start, end in contender.spans if start < called < end]
        own = longest_before((*contender.spans, *in_flight), called, _standstills(evidence))
        return own or 0.0
    spans = [0]
    for started, ended in contender.spans:
        start, end = max(started, called), min(ended, returned)
        if end > start:
            spans.append(end - start - _still(evidence, start, end))
    return max(spans) / 1e9


def _before(contender: Contending, evidence: Evidence) -> float | None:
    """The longest operation that it had completed before the call, None if none."""
    return longest_before(contender.spans, evidence.called_ns, _standstills(evidence))


def _still(evidence: Evidence, since_ns: int, until_ns: int) -> int:
    """For how many nanoseconds of these the whole process stood still."""
    gaps = _standstills(evidence)
    return overlap(gaps, since_ns, until_ns) if gaps else 0


def _standstills(evidence: Evidence) -> tuple[tuple[int, int], ...]:
    return evidence.stood_still


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


def find_stalls(evidence: Evidence, by: frozenset[str] | None = None) -> list[Stall]:
    """The contenders that the routine held up for more than half of its wait, in their order.

    ``by``: the holders at which a chain of waits ends, by default the threads of the routine.
    """
    if not evidence.waited:
        return []
    blame = _Blame(evidence, evidence.routine_actors if by is None else by)
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

    def __init__(self, evidence: Evidence, by: frozenset[str]) -> None:
        self._routine = by
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
        reached = start
        for wait in self._waits[actor]:
            # an operation that goes on trying may wait as well meanwhile: that counts once
            since, until = max(wait.since_ns, reached), min(wait.until_ns or end, end)
            if until <= since:
                continue
            reached = until
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
