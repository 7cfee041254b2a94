"""Which locks did the routine hold: when it was called, over its wait, when it returned?"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pytest_gracekill.report import NotJudged, Verdict
from pytest_gracekill.verdicts.evidence import SHORTEST_WAIT
from pytest_gracekill.verdicts.progress import NAME_IT, RELEASE
from pytest_gracekill.verdicts.views import worst
from pytest_gracekill.witness.history import UNTRACED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_gracekill.verdicts.evidence import Evidence, LockState
    from pytest_gracekill.witness.history import Hold


def judge(evidence: Evidence) -> Verdict | NotJudged:
    """Broken when other locks are held at return than at entry, or one was held over the wait."""
    return worst(evidence, _judge)


def _judge(evidence: Evidence) -> Verdict | NotJudged:
    state = evidence.lock_state
    if state is None:
        return NotJudged(name="locks", reason="no locks were handed in")
    if state.deadlocks:
        return NotJudged(name="locks", reason="a deadlock was broken up, which lost locks")
    if state.untouched:
        return Verdict(
            name="locks",
            status="unknown",
            word="unknown",
            evidence=state.untouched,
            advice="name the locks that the routine takes, by the object and attribute through"
            " which it takes them",
        )
    words: list[str] = []
    texts: list[str] = []
    advice = ""
    kept = _kept(state, evidence)
    if evidence.hung:
        texts.append("at return: not judged, the routine was cut off")
    elif sorted(state.at_entry) != sorted(state.at_return):
        words.append("LOCK LOST")
        texts.append(
            f"held at entry: {_names(state.at_entry)}; at return: {_names(state.at_return)}"
        )
        advice = "restore the locks on every path: return, error, exception"
    elif kept:
        words.append("LOCK LOST")
        texts.append(
            f"held at entry: {_names(state.at_entry)}; at return: {_names(kept)}, through a"
            " reference not traced"
        )
        advice = "release the lock on every path: return, error, exception"
    else:
        texts.append(f"{_names(state.at_entry)} held at entry and at return")
    held = over_wait(evidence)
    over = [found for found in held if found[2]]
    if over:
        words.append("HELD OVER WAIT")
        texts = texts if "LOCK LOST" in words else []
        texts += [
            f"{hold.lock} held for {seconds:.3f} s of the wait ({evidence.since(hold)}), wanted"
            f" meanwhile by {_names(waiters)}"
            for hold, seconds, waiters in over
        ]
        advice = advice or RELEASE
    elif held:
        names = _names(tuple(dict.fromkeys(hold.lock for hold, _, _ in held)))
        texts.append(f"{names} held over the wait, wanted by nobody meanwhile")
    else:
        texts.append("none held over the wait")
    if words:
        return Verdict(
            name="locks",
            status="broken",
            word=words[0],
            also=tuple(words[1:]),
            evidence="; ".join(texts),
            advice=advice,
        )
    return _unseen(evidence) or Verdict(
        name="locks", status="ok", word="ok", evidence="; ".join(texts)
    )


def _kept(state: LockState, evidence: Evidence) -> tuple[str, ...]:
    """The locks that the routine holds at return through a reference that is not traced."""
    held = [
        hold.lock
        for hold in evidence.holds
        if not hold.traced and hold.released_ns is None and hold.actor == evidence.routine_actor
    ]
    known = [lock for lock, actor in state.kept if actor == evidence.routine_actor]
    return tuple(dict.fromkeys((*held, *known)))


def _unseen(evidence: Evidence) -> Verdict | None:
    """A lock that was wanted, or is left, while nobody knows who held it: that is not ok."""
    state = evidence.lock_state
    over = [found for found in _over_wait_by(UNTRACED, evidence) if found[2]]
    if over:
        hold, seconds, waiters = over[0]
        text = (
            f"{hold.lock} held for {seconds:.3f} s of the wait ({evidence.since(hold)}), wanted"
            f" meanwhile by {_names(waiters)}: who held it is not known"
        )
    elif state is not None and state.kept and not evidence.hung:
        kept = tuple(lock for lock, _ in state.kept)
        text = f"{_names(kept)} held after the call, through a reference not traced"
    else:
        return None
    return Verdict(name="locks", status="unknown", word="unknown", evidence=text, advice=NAME_IT)


def _names(names: tuple[str, ...]) -> str:
    if not names:
        return "none"
    return " and ".join(names) if len(names) < 3 else ", ".join(names)  # noqa: PLR2004 - prose


def over_wait(evidence: Evidence) -> list[tuple[Hold, float, tuple[str, ...]]]:
    """The routine's holds that span most of its wait, and who waited for them meanwhile.

    A lock that nobody wanted is no finding, nor one held for a wait too short to disturb anybody.
    """
    return _over_wait_by(evidence.routine_actor, evidence)


def _over_wait_by(holder: str, evidence: Evidence) -> list[tuple[Hold, float, tuple[str, ...]]]:
    if not evidence.waited:
        return []
    found = []
    needed = evidence.own_wait * 1e9 / 2
    for hold in evidence.holds:
        if hold.actor != holder:
            continue
        start = max(hold.acquired_ns, evidence.called_ns)
        end = min(hold.released_ns or evidence.returned_ns, evidence.returned_ns)
        if end - start - evidence.held_up(start, end) < needed:
            continue
        waiters = _waiters(evidence, hold, start, end, needed)
        names = tuple(sorted(name.removeprefix("gracekill:") for name in waiters))
        found.append((hold, (end - start) / 1e9, names))
    return found


def _waiters(evidence: Evidence, hold: Hold, start: int, end: int, needed: float) -> Iterable[str]:
    """Who was disturbed: by one wait that is long enough, or by many that are so together."""
    waited: dict[str, int] = defaultdict(int)
    disturbed = set()
    for wait in evidence.waits:
        if wait.lock == hold.lock and wait.actor != hold.actor:
            since, until = max(wait.since_ns, start), min(wait.until_ns or end, end)
            if until > since:
                took = until - since - evidence.held_up(since, until)
                waited[wait.actor] += took
                if took > SHORTEST_WAIT / 2 * 1e9 or waited[wait.actor] > needed:
                    disturbed.add(wait.actor)
    return disturbed
