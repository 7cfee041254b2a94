"""The one table of verdict words: the verdict that says each, how bad it is, and what it means.

Severity, the reference and the gallery follow from it. A new word needs a row here, a check in its
module of `verdicts`, a moment in `verdicts.moments`, and an exhibit in docs/exhibits.py.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A word that says what is broken; ``verdicts`` can say it. ``severity``: 0 is the worst."""

    name: str
    verdicts: tuple[str, ...]
    severity: int
    meaning: str

    def __str__(self) -> str:
        return f"{self.name}: {self.meaning}"


def _word(verdicts: str, name: str, severity: int, meaning: str) -> Word:
    return Word(name=name, verdicts=tuple(verdicts.split()), severity=severity, meaning=meaning)


#: Every word, in the order in which the reference lists them. Severities order what to read first:
#: 0-9 lost data, 10-19 harm to others, 20-29 a wrong kill, 30-39 an untrue report, 40-49 what is
#: left behind, 50-59 what hangs or is slow.
WORDS: tuple[Word, ...] = (
    _word("data", "DATA LOST", 0, "acknowledged blocks are not on the disk"),
    _word("data", "TORN", 1, "a block is half written"),
    _word(
        "data",
        "STALE",
        2,
        "a block is on the disk in an older generation than was acknowledged",
    ),
    _word(
        "data",
        "PHANTOM",
        3,
        "a block is on the disk that the guest never wrote, or never wrote so",
    ),
    _word(
        "escalation",
        "STRANGER",
        10,
        "a signal to pid 0, to -1, to our own process group or to a process outside of the trial,"
        " which was refused; or one to a process that has got the VM's pid",
    ),
    _word(
        "escalation",
        "NEVER ASKED",
        20,
        "no stop request reached a VM that was alive at the call, and the routine killed it, or"
        " reported success, or reported a failure without having tried",
    ),
    _word(
        "escalation data",
        "UNHEARD",
        21,
        "the routine killed a VM that had not heard the request: the VM was stopped, the signal was"
        " blocked or ignored, the handlers were not there yet, the guest was paused, or the VM did"
        " not act on the request in all of its time; a longer grace does not help; in `data` beside"
        " DATA LOST, else in `escalation`",
    ),
    _word("escalation", "KILLED ANYWAY", 23, "SIGKILL, although the call was to be graceful"),
    _word(
        "escalation",
        "KILLED EARLY",
        22,
        "a deadly signal before the time that the routine promised to survive was over",
    ),
    _word(
        "escalation",
        "NEVER KILLED",
        34,
        "SIGKILL was promised, the VM outlived the routine, and it never came",
    ),
    _word(
        "escalation",
        "REPEATED",
        24,
        "more than one stop request where the second one aborts the flush or begins it again, or"
        " SIGTERM more than once from a routine that takes `driver`",
    ),
    _word(
        "outcome",
        "LEAKED",
        30,
        "success was reported, and the VM lives on: no request came within `settle`, or the VM did"
        " not end after one; or a cancelled call left a VM that was not asked to stop",
    ),
    _word("outcome", "EARLY", 33, "success was reported before the VM ended, and it then ended"),
    _word(
        "outcome",
        "RAISED",
        37,
        "an exception, although the VM was dead and the routine could know it",
    ),
    _word(
        "outcome",
        "LIED",
        31,
        "failure was reported although the VM was dead and the routine could know it, or the result"
        " names another signal than the one that ended it",
    ),
    _word(
        "outcome",
        "GAVE UP",
        32,
        "failure was reported before the time that the test asked for by `survive` was over, and"
        " the VM ended by itself within it",
    ),
    _word(
        "outcome", "RESTARTED", 36, "the VM was started again after its stop, and not by the test"
    ),
    _word("promptness", "SLOW", 55, "it returned more than `slack` seconds after the exit"),
    _word(
        "promptness",
        "HUNG",
        50,
        "it had not returned when its budget was over, and was cut off; the stack is shown",
    ),
    _word(
        "deadlock",
        "DEADLOCK",
        11,
        "threads waited for each other; the acquire that closed the circle raised"
        " `DeadlockDetected`, so that the run went on",
    ),
    _word(
        "deadlock",
        "LOCK ORDER",
        51,
        "locks were taken in orders that contradict each other: nothing hung this time, another"
        " time it can",
    ),
    _word("locks", "LOCK LOST", 25, "other locks are held at the return than at the entry"),
    _word(
        "locks",
        "HELD OVER WAIT",
        52,
        "a lock was held over the wait, and another thread wanted it meanwhile",
    ),
    _word(
        "progress",
        "STALLED",
        53,
        "a contender stood still for more than half of the wait, behind a lock that the routine"
        " held: the chain of locks is shown; or one of `contend`, or the event loop, took longer"
        " than `stall_limit`; or it raised, or had not come back some time after the call",
    ),
    _word(
        "identity",
        "WRONG VM",
        13,
        "a signal or the clean-up reached a VM that was started meanwhile",
    ),
    _word("identity", "FREED", 12, "a domain was used after its last reference had gone"),
    _word("identity", "TWICE", 26, "one run of a VM was cleaned up twice"),
    _word(
        "leftovers",
        "ORPHANS",
        40,
        "processes that belong to the VM are alive after success was reported",
    ),
    _word(
        "leftovers",
        "LOCKED",
        41,
        "the disk is still locked, or the pid file or the QMP socket is still there",
    ),
)

_BY_NAME = {word.name: word for word in WORDS}

#: The severity of what is no word: a case that failed for another reason, one that is unknown.
FAILED, UNKNOWN, NOTHING = 35, 60, 99


def named(text: str) -> Word | None:
    """The word that a text begins with, such as ``TORN (blocks 3)``; None where there is none."""
    found = [word for name, word in _BY_NAME.items() if text.startswith(name)]
    return max(found, key=lambda word: len(word.name), default=None)


def severity(text: str) -> int:
    """How bad the worst of these comma-separated words is: 0 is the worst, `NOTHING` for none."""
    ranks = [NOTHING]
    for part in text.split(", "):
        if (word := named(part)) is not None:
            ranks.append(word.severity)
        elif part in ("FAILED", "UNKNOWN"):
            ranks.append(FAILED if part == "FAILED" else UNKNOWN)
    return min(ranks)
