"""Which locks did the routine hold: when it was called, over its wait, when it returned?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.report import NotJudged, Verdict
from pytest_gracekill.verdicts.evidence import SHORTEST_WAIT
from pytest_gracekill.verdicts.views import worst

if TYPE_CHECKING:
    from pytest_gracekill.verdicts.evidence import Evidence
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
    if evidence.hung:
        texts.append("at return: not judged, the routine was cut off")
    elif sorted(state.at_entry) != sorted(state.at_return):
        words.append("LOCK LOST")
        texts.append(
            f"held at entry: {_names(state.at_entry)}; at return: {_names(state.at_return)}"
        )
        advice = "restore the locks on every path: return, error, exception"
    else:
        texts.append(f"{_names(state.at_entry)} held at entry and at return")
    held = over_wait(evidence)
    over = [found for found in held if found[2]]
    if over:
        words.append("HELD OVER WAIT")
        texts = texts if words[0] == "LOCK LOST" else []
        texts += [
            f"{hold.lock} held for {seconds:.3f} s of the wait ({evidence.since(hold)}), wanted"
            f" meanwhile by {_names(waiters)}"
            for hold, seconds, waiters in over
        ]
        advice = advice or "let the lock go before the first sleep, and take it again at the end"
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
    return Verdict(name="locks", status="ok", word="ok", evidence="; ".join(texts))


def _names(names: tuple[str, ...]) -> str:
    if not names:
        return "none"
    return " and ".join(names) if len(names) < 3 else ", ".join(names)  # noqa: PLR2004 - prose


def over_wait(evidence: Evidence) -> list[tuple[Hold, float, tuple[str, ...]]]:
    """The routine's holds that span most of its wait, and who waited for them meanwhile.

    A lock that nobody wanted is no finding, nor one held for a wait too short to disturb anybody.
    """
    if not evidence.waited:
        return []
    found = []
    needed = evidence.own_wait * 1e9 / 2
    for hold in evidence.holds:
        if hold.actor != evidence.routine_actor:
            continue
        start = max(hold.acquired_ns, evidence.called_ns)
        end = min(hold.released_ns or evidence.returned_ns, evidence.returned_ns)
        if end - start - evidence.held_up(start, end) < needed:
            continue
        waiters = {
            wait.actor
            for wait in evidence.waits
            if wait.lock == hold.lock
            and wait.actor != hold.actor
            and _waited(evidence, max(wait.since_ns, start), min(wait.until_ns or end, end))
        }
        names = tuple(sorted(name.removeprefix("gracekill:") for name in waiters))
        found.append((hold, (end - start) / 1e9, names))
    return found


def _waited(evidence: Evidence, since_ns: int, until_ns: int) -> bool:
    """Whether somebody who waited from then until then was disturbed."""
    return until_ns - since_ns - evidence.held_up(since_ns, until_ns) > SHORTEST_WAIT / 2 * 1e9
