"""Each verdict by its word, from evidence that is all right but for one thing."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pytest_gracekill import verdicts
from pytest_gracekill.child.disk import Audit
from pytest_gracekill.child.handle import Exit
from pytest_gracekill.child.journal import Entry
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.data.disturbances import (
    Disturbance,
    EndedThread,
    StartedProcess,
    Suspects,
)
from pytest_gracekill.data.requests import PendingSignal, Start, Unheard
from pytest_gracekill.judgement import Judgement
from pytest_gracekill.report import VERDICTS, Call, NotJudged, Report, Verdict
from pytest_gracekill.routine.result import KillResult
from pytest_gracekill.verdicts.evidence import (
    ActsSeen,
    Caller,
    Evidence,
    IdentitySeen,
    LockState,
    Promise,
)
from pytest_gracekill.verdicts.requests import sigkill_sent
from pytest_gracekill.witness.contenders import Contender
from pytest_gracekill.witness.history import Frame, History, Hold, Wait
from pytest_gracekill.witness.identity import CleanUp, FreedUse
from pytest_gracekill.witness.leftovers import Held, Leftovers, Orphan
from pytest_gracekill.witness.signals import SentSignal

S = 1_000_000_000
CALLED = 100 * S
ROUTINE = "MainThread"
ALL = list(range(64))
SITE = (Frame(file="vmtool.py", line=7, function="destroy"),)
DISK = Held(what="disk lock", path=Path("disk"))


def at(seconds: float) -> int:
    """A moment, in seconds since the call."""
    return CALLED + int(seconds * S)


def sent(signum: int, seconds: float, **changes: Any) -> SentSignal:
    values: dict[str, Any] = {
        "at_ns": at(seconds),
        "signum": signum,
        "to": "vm",
        "pid": 4711,
        "comm": "qemu",
        "target": "the VM",
        "actor": ROUTINE,
        "reached_vm": True,
        "refused": False,
        "errno": None,
        "site": SITE[0],
    }
    return SentSignal(**{**values, **changes})


def seen(seconds: float, signum: int = 15) -> Entry:
    return Entry(at_ns=at(seconds), event="signal", fields={"signal": signum, "pid": 1})


def said(event: str, seconds: float) -> Entry:
    return Entry(at_ns=at(seconds), event=event, fields={})


def audit(**changes: Any) -> Audit:
    values: dict[str, Any] = {
        "acknowledged": ALL,
        "lost": [],
        "torn": [],
        "stale": [],
        "phantom": [],
        "problem": None,
    }
    return Audit(**{**values, **changes})


def hold(lock: str, actor: str, since: float, until: float) -> Hold:
    return Hold(lock=lock, actor=actor, acquired_ns=at(since), released_ns=at(until), site=SITE)


def wait(lock: str, actor: str, since: float, until: float) -> Wait:
    return Wait(
        lock=lock,
        actor=actor,
        since_ns=at(since),
        until_ns=at(until),
        acquired=True,
        timed=False,
        site=SITE,
    )


def contender(name: str, *spans: tuple[float, float]) -> Contender:
    made = Contender(name, lambda: None, History())
    made.spans += [(at(start), at(end)) for start, end in spans]
    return made


def users(*spans: tuple[float, float]) -> Contender:
    made = contender("status", *spans)
    made.by_latency = True
    return made


PROMISE = Promise(
    force=True,
    nowait=False,
    survive=1.0,
    grace=10.0,
    takes_driver=True,
    slack=0.5,
    stall_limit=1.0,
    budget=20.0,
)
LOCKS = LockState(
    traced=5,
    acquisitions=100,
    at_entry=("driver", "domain vm"),
    at_return=("driver", "domain vm"),
    deadlocks=(),
    cycles=(),
)
#: A VM that was asked at t+0, flushed for 1 s and exited; the routine returned at once.
RIGHT = Evidence(
    knobs=Knobs(flush_time=1.0),
    promise=PROMISE,
    call=Call(
        success=True,
        result=KillResult(ok=True, dead=True, signal=15, elapsed=1.0, sent=(15,)),
        error=None,
        elapsed=1.001,
    ),
    called_ns=CALLED,
    returned_ns=at(1.001),
    hung_in=(),
    routine_actor=ROUTINE,
    first_request_ns=at(0.001),
    signals=(sent(15, 0.0),),
    journal=(seen(0.001),),
    exit=Exit(code=0, signal=None, at=at(1.0) / 1e9),
    exit_ns=at(1.0),
    alive_at_return=False,
    ended_at_return=True,
    ended_by_trial=False,
    audit=audit(),
    holds=(),
    waits=(),
    lock_state=LOCKS,
    contenders=(contender("other-1", (-0.1, -0.099), (0.2, 0.201)),),
    leftovers=Leftovers(started=1, orphans=(), locked=()),
    identity=IdentitySeen(domain="vm", incarnation=1, uses=(), clean_ups=()),
)


def change(evidence: Evidence, **changes: Any) -> Evidence:
    """Replace fields; ``promise__force`` is a field of the promise, and so on."""
    nested: dict[str, dict[str, Any]] = {}
    plain: dict[str, Any] = {}
    for name, value in changes.items():
        outer, _, inner = name.partition("__")
        if inner:
            nested.setdefault(outer, {})[inner] = value
        else:
            plain[name] = value
    for outer, inner_changes in nested.items():
        plain[outer] = dataclasses.replace(getattr(evidence, outer), **inner_changes)
    return dataclasses.replace(evidence, **plain)


def judge(name: str, **changes: Any) -> Verdict | NotJudged:
    return verdicts.JUDGES[name](change(RIGHT, **changes))


def cleaned(incarnation: int | None, seconds: float, domain: str = "vm") -> CleanUp:
    return CleanUp(
        domain=domain, incarnation=incarnation, actor=ROUTINE, at_ns=at(seconds), site=SITE[0]
    )


FREED = FreedUse(domain="vm", what="lock", actor=ROUTINE, at_ns=at(1.0), site=SITE[0])

KILLED: dict[str, Any] = {
    "signals": (sent(15, 0.0), sent(9, 0.6)),
    "exit": Exit(code=None, signal=9, at=at(0.61) / 1e9),
    "exit_ns": at(0.61),
}
#: The same by somebody else, with a status that nobody can know any more: the journal ends unsaid.
KILLED_UNSEEN: dict[str, Any] = {
    "signals": (),
    "journal": (said("handlers", -0.1), seen(0.001)),
    "exit": Exit(code=None, signal=None, at=at(0.61) / 1e9),
    "exit_ns": at(0.61),
}
#: The routine had started a process besides, which could have killed the VM.
STARTED: dict[str, Any] = {
    "suspects": Suspects(processes=(StartedProcess(at_ns=at(0.01), text="sh -c stop"),))
}
ENDED = EndedThread(name="pool-0", alive_ns=at(0.6), gone_ns=at(0.609))
SEGV = Exit(code=None, signal=11, at=at(0.61) / 1e9)
LOST_WRAPPER = Disturbance(what="process", by="outside", text="the wrapper was ended by SIGKILL")
ALIVE: dict[str, Any] = {"alive_at_return": True, "exit_ns": at(3.0), "returned_ns": at(1.0)}
REQUESTED: dict[str, Any] = {"promise__returns": "requested"}
LIVES_ON: dict[str, Any] = {
    "alive_at_return": True,
    "ended_by_trial": True,
    "exit_ns": None,
    "exit": Exit(code=None, signal=9, at=at(9.0) / 1e9),
}
FAILED: dict[str, Any] = {"call__success": False, "call__result": False}
OVER_THE_WAIT = (hold("driver", ROUTINE, -0.01, 1.001),)
BEHIND = (
    hold("domain vm", ROUTINE, -0.01, 1.001),
    hold("driver", "gracekill:same-1", 0.01, 1.002),
)

UNASKED: dict[str, Any] = {"signals": (), "journal": ()}
ABORTED = Exit(code=None, signal=6, at=at(0.61) / 1e9)
ELSEWHERE = sent(15, 0.1, to="nobody", target="pid 7", pid=7, reached_vm=False, errno=3)
UNHEARD = sent(15, 0.0, unheard=Unheard(reason="stopped", text="the VM was stopped"))
PENDING = PendingSignal(
    at_ns=at(0.05), signum=15, unheard=Unheard(reason="blocked", text="the VM had SIGTERM blocked")
)
PAUSED = Entry(at_ns=at(0.1), event="powerdown", fields={"heard": False, "status": "paused"})
REJECTED = Entry(at_ns=at(0.1), event="qmp_error", fields={"said": "quit", "error": "no JSON"})
CANCELLED: dict[str, Any] = {
    "call__success": False,
    "call__result": None,
    "call__error": asyncio.CancelledError(),
}
#: It ended by itself 0.4 s after a failure was reported, 1.6 s before the promise was over.
GAVE_UP: dict[str, Any] = {
    "alive_at_return": True,
    "ended_at_return": False,
    "returned_ns": at(0.6),
    "promise__survive": 2.0,
    "promise__survive_asked": True,
}

BROKEN: list[tuple[str, str, dict[str, Any]]] = [
    ("data", "DATA LOST", {"audit": audit(lost=[62, 63])}),
    # it had the time, and a second request stopped its flush
    (
        "data",
        "DATA LOST",
        {
            **KILLED,
            "signals": (sent(15, 0.0), sent(15, 0.2), sent(9, 0.6)),
            "audit": audit(lost=[63]),
            "knobs": Knobs(flush_time=0.5, on_second_term="abort"),
        },
    ),
    ("data", "TORN", {"audit": audit(torn=[3])}),
    ("data", "STALE", {"audit": audit(stale=[3])}),
    ("data", "PHANTOM", {"audit": audit(phantom=[3])}),
    ("escalation", "KILLED EARLY", KILLED),
    # nobody saw it being sent: by its effect
    ("escalation", "KILLED EARLY", {**KILLED, "signals": (sent(15, 0.0),), **STARTED}),
    ("escalation", "KILLED EARLY", {**KILLED_UNSEEN, **STARTED}),
    # by the kernel, with the thread that had forked the VM
    ("escalation", "KILLED EARLY", {**KILLED_UNSEEN, "suspects": Suspects(thread=ENDED)}),
    ("escalation", "KILLED EARLY", {**KILLED, "promise__force": None}),
    ("escalation", "NEVER KILLED", {**LIVES_ON, **FAILED}),
    ("escalation", "KILLED ANYWAY", {**KILLED, "promise__force": False, "promise__survive": 0.1}),
    ("escalation", "REPEATED", {"signals": (sent(15, 0.0), sent(15, 0.2))}),
    (
        "escalation",
        "REPEATED",
        {
            "knobs": Knobs(on_second_term="abort"),
            "promise__takes_driver": False,
            "journal": (seen(0.0, 2), seen(0.3)),
            "signals": (),
        },
    ),
    (
        "escalation",
        "STRANGER",
        {"signals": (sent(15, 0.0, refused=True, reached_vm=False, target="pid -1"),)},
    ),
    # no request reached it, whatever the routine reports of that
    ("escalation", "NEVER ASKED", {**KILLED, **UNASKED, "signals": (sent(9, 0.6),)}),
    (
        "escalation",
        "NEVER ASKED",
        {**KILLED, **UNASKED, "signals": (sent(6, 0.6),), "exit": ABORTED},
    ),
    ("escalation", "NEVER ASKED", {**KILLED, **UNASKED, **STARTED}),
    ("escalation", "NEVER ASKED", {**KILLED, **UNASKED, "suspects": Suspects(thread=ENDED)}),
    ("escalation", "NEVER ASKED", {**LIVES_ON, **UNASKED}),
    ("escalation", "NEVER ASKED", {**LIVES_ON, **UNASKED, **FAILED, "promise__force": None}),
    # what went to somebody else is no request, and no try at the VM either
    ("escalation", "NEVER ASKED", {**LIVES_ON, **UNASKED, **FAILED, "signals": (ELSEWHERE,)}),
    # nor is what the monitor rejects, when the VM is killed then
    (
        "escalation",
        "NEVER ASKED",
        {**KILLED, "journal": (REJECTED,), "signals": (sent(9, 0.6),)},
    ),
    ("escalation", "UNHEARD", {**KILLED, "journal": (), "signals": (UNHEARD, sent(9, 0.6))}),
    # a grace that was too short is no cause where the request could not be heard
    (
        "escalation",
        "UNHEARD",
        {**KILLED, "journal": (PAUSED,), "signals": (sent(9, 0.6),), "promise__survive": 5.0},
    ),
    ("escalation", "UNHEARD", {**KILLED, **UNASKED, "pending": (PENDING,), **STARTED}),
    # it died of the request itself, since its handlers were not in
    (
        "escalation",
        "UNHEARD",
        {**UNASKED, "signals": (UNHEARD,), "exit": Exit(code=None, signal=15, at=at(0.1) / 1e9)},
    ),
    ("outcome", "LEAKED", LIVES_ON),
    ("outcome", "LEAKED", {**LIVES_ON, "promise__returns": "requested"}),
    ("outcome", "LEAKED", {**ALIVE, **REQUESTED, "promise__vm_needs_longer": True}),
    ("outcome", "LEAKED", {**LIVES_ON, **CANCELLED, **UNASKED}),
    ("outcome", "LEAKED", {**LIVES_ON, **CANCELLED}),
    ("outcome", "GAVE UP", {**GAVE_UP, **FAILED}),
    ("outcome", "GAVE UP", {**GAVE_UP, "call__success": False, "call__error": TimeoutError()}),
    ("outcome", "RESTARTED", {"restarts": (Start(pid=7, at_ns=at(1.2), by="pid 5 (sh)"),)}),
    ("outcome", "EARLY", ALIVE),
    ("outcome", "LIED", {**FAILED, "exit_ns": at(0.5)}),
    ("outcome", "LIED", {"call__result": KillResult(ok=True, dead=True, signal=9)}),
    ("outcome", "LIED", KILLED),
    ("outcome", "RAISED", {"call__success": False, "call__error": OSError(3, "no such process")}),
    (
        "outcome",
        "RAISED",
        {"call__success": False, "call__error": ProcessLookupError(), "exit_ns": at(1.0005)},
    ),
    ("promptness", "SLOW", {"returned_ns": at(1.51)}),
    # it ended late, and that is no excuse for what came after it
    ("promptness", "SLOW", {"returned_ns": at(2.6), "gone_ns": at(2.0)}),
    ("promptness", "HUNG", {"call__success": None, "hung_in": SITE}),
    ("identity", "FREED", {"identity__uses": (FREED,)}),
    ("identity", "TWICE", {"identity__clean_ups": (cleaned(1, 1.0), cleaned(None, 1.1))}),
    ("identity", "WRONG VM", {"identity__clean_ups": (cleaned(2, 1.0),)}),
    (
        "identity",
        "WRONG VM",
        {"signals": (sent(9, 0.5, to="other run", reached_vm=False, target="another run"),)},
    ),
    ("locks", "LOCK LOST", {"lock_state__at_return": ("driver",)}),
    ("locks", "LOCK LOST", {"lock_state__at_return": ("driver", "domain vm", "domain other")}),
    (
        "locks",
        "HELD OVER WAIT",
        {"holds": OVER_THE_WAIT, "waits": (wait("driver", "gracekill:other-1", 0.1, 1.0),)},
    ),
    (
        "progress",
        "STALLED",
        {"holds": OVER_THE_WAIT, "waits": (wait("driver", "gracekill:other-1", 0.1, 1.0),)},
    ),
    # behind another contender that stands behind the routine
    (
        "progress",
        "STALLED",
        {
            "holds": BEHIND,
            "waits": (
                wait("driver", "gracekill:other-1", 0.1, 1.001),
                wait("domain vm", "gracekill:same-1", 0.02, 1.001),
            ),
        },
    ),
    # what it waits for is not traced: beyond the limit, and five times its own longest before
    (
        "progress",
        "STALLED",
        {"contenders": (users((-2.0, -1.9), (0.1, 1.2)),), "returned_ns": at(2)},
    ),
    (
        "leftovers",
        "ORPHANS",
        {"leftovers": Leftovers(started=2, orphans=(Orphan(pid=7, role="helper"),), locked=())},
    ),
    (
        "leftovers",
        "LOCKED",
        {"leftovers": Leftovers(started=1, orphans=(), locked=(DISK,))},
    ),
]


@pytest.mark.parametrize(
    ("name", "word", "changes"),
    BROKEN,
    ids=[f"{word}-{i}" for i, (_, word, _) in enumerate(BROKEN)],
)
def test_broken(name: str, word: str, changes: dict[str, Any]) -> None:
    verdict = judge(name, **changes)
    assert isinstance(verdict, Verdict), verdict
    assert (verdict.status, verdict.word) == ("broken", word), verdict
    assert verdict.evidence


OK: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in VERDICTS),
    # asked by a channel that nobody saw: it ended with status 0 after a flush
    ("escalation", {"signals": (), "journal": (said("flush_begin", 0.1), said("exit", 1.0))}),
    # dead before it was called, cut off, cancelled, killed at once as it was asked to
    ("escalation", {**UNASKED, "exit_ns": at(-1.0)}),
    ("escalation", {**LIVES_ON, **UNASKED, "call__success": None, "promise__force": None}),
    ("escalation", {**LIVES_ON, **UNASKED, **CANCELLED}),
    (
        "escalation",
        {**KILLED, **UNASKED, "signals": (sent(9, 0.0),), "promise__nowait": True},
    ),
    # a failure after a try that the kernel, or the monitor, refused
    (
        "escalation",
        {
            **LIVES_ON,
            **FAILED,
            **UNASKED,
            "signals": (sent(15, 0.0, reached_vm=False, errno=1),),
            "promise__force": None,
        },
    ),
    (
        "escalation",
        {**LIVES_ON, **FAILED, "signals": (), "journal": (REJECTED,), "promise__force": None},
    ),
    # what is handed on is requested; it has until the end of the promise
    ("outcome", {**ALIVE, **REQUESTED, "exit_ns": at(1.005), "promise__vm_needs_longer": True}),
    # a VM that needs no longer was held up by the machine
    ("outcome", {**ALIVE, **REQUESTED}),
    # a cancelled call claims nothing: the VM was asked, and ended
    ("outcome", {**ALIVE, **CANCELLED}),
    ("outcome", {**CANCELLED, "exit_ns": at(0.5)}),
    # failures before the end that are none of giving up
    ("outcome", {**GAVE_UP, **FAILED, "promise__survive_asked": False}),
    ("outcome", {**GAVE_UP, **FAILED, "promise__nowait": True}),
    ("outcome", {**GAVE_UP, **FAILED, "promise__returns": "requested"}),
    ("outcome", {**GAVE_UP, "call__success": False, "call__error": PermissionError(1, "no")}),
    (
        "outcome",
        {**GAVE_UP, "call__success": False, "call__result": KillResult(ok=False, errno=1)},
    ),
    ("outcome", {**GAVE_UP, **FAILED, "exit_ns": at(2.5)}),
    # SIGKILL after what was promised to be survived
    ("escalation", {**KILLED, "promise__survive": 0.5}),
    # it crashed by itself, or was hit by SIGTERM before its handlers were in
    (
        "escalation",
        {**KILLED_UNSEEN, "journal": (said("handlers", -0.1), seen(0.0), said("crash", 0.6))},
    ),
    ("escalation", {**KILLED_UNSEEN, "journal": ()}),
    # within the tolerance of 20 ms
    ("escalation", {**KILLED, "promise__survive": 0.61}),
    # the caller asked for SIGKILL at once
    ("escalation", {**KILLED, "promise__nowait": True}),
    # a second SIGTERM that hurts nobody, by a routine that is not the manager's
    (
        "escalation",
        {"signals": (sent(15, 0.0), sent(15, 0.2)), "promise__takes_driver": False},
    ),
    # it failed, and says so
    ("outcome", {**LIVES_ON, **FAILED}),
    ("outcome", {**LIVES_ON, "call__success": False, "call__error": TimeoutError()}),
    # it failed, and the VM died in the very last milliseconds
    ("outcome", {**FAILED, "exit_ns": at(0.995)}),
    # NOWAIT does not wait
    ("outcome", {**ALIVE, "promise__nowait": True}),
    # a starved machine: the process that has said its last word ends late
    ("promptness", {"returned_ns": at(2.0), "gone_ns": at(1.6)}),
    ("outcome", {**FAILED, "returned_ns": at(2.0), "gone_ns": at(1.99)}),
    # nobody noticed sooner than from outside, but the routine took its time all the same
    ("promptness", {"returned_ns": at(1.49)}),
    # dead long before the call: it can't be noticed before
    ("promptness", {"exit_ns": at(-5.0), "returned_ns": at(0.1)}),
    # held over the wait, and nobody wanted it
    ("locks", {"holds": OVER_THE_WAIT}),
    # wanted, but let go before the wait
    (
        "locks",
        {
            "holds": (hold("driver", ROUTINE, -0.01, 0.2),),
            "waits": (wait("driver", "gracekill:other-1", 0.0, 0.2),),
        },
    ),
    # held and wanted for a wait that is too short to disturb
    (
        "locks",
        {
            "holds": (hold("driver", ROUTINE, -0.01, 0.2),),
            "waits": (wait("driver", "gracekill:other-1", 0.0, 0.2),),
            "returned_ns": at(0.2),
        },
    ),
    # one contender behind another, the routine is not in it
    (
        "progress",
        {
            "holds": (hold("driver", "gracekill:same-1", 0.0, 1.0),),
            "waits": (wait("driver", "gracekill:other-1", 0.0, 1.0),),
        },
    ),
    # slow, but it was as slow before
    ("progress", {"contenders": (users((-2.0, -1.7), (0.1, 1.2)),), "returned_ns": at(2)}),
    # far slower than before, but within the limit
    ("progress", {"contenders": (users((-2.0, -1.9), (0.1, 0.9)),), "returned_ns": at(2)}),
    ("data", {"audit": audit(acknowledged=[])}),
    # once, and other domains as often as they like
    (
        "identity",
        {
            "identity__clean_ups": (
                cleaned(None, 0.1, "other"),
                cleaned(1, 1.0),
                cleaned(7, 1.1, "other"),
            )
        },
    ),
]


@pytest.mark.parametrize(
    ("name", "changes"), OK, ids=[f"{name}-{i}" for i, (name, _) in enumerate(OK)]
)
def test_ok(name: str, changes: dict[str, Any]) -> None:
    verdict = judge(name, **changes)
    assert isinstance(verdict, Verdict), verdict
    assert (verdict.status, verdict.word) == ("ok", "ok"), verdict


NOT_JUDGED: list[tuple[str, str, dict[str, Any]]] = [
    ("data", "the trial ended it", LIVES_ON),
    ("data", "dead before", {"exit_ns": at(-1)}),
    ("data", "at once", {"promise__nowait": True}),
    ("outcome", "cut off", {"call__success": None}),
    ("deadlock", "no locks", {"lock_state": None}),
    ("locks", "no locks", {"lock_state": None}),
    ("progress", "no contenders", {"contenders": ()}),
    ("identity", "takes no driver", {"identity": None}),
    ("leftovers", "did not report", {"leftovers": None}),
]


@pytest.mark.parametrize(("name", "reason", "changes"), NOT_JUDGED)
def test_not_judged(name: str, reason: str, changes: dict[str, Any]) -> None:
    verdict = judge(name, **changes)
    assert isinstance(verdict, NotJudged), verdict
    assert reason in verdict.reason


def test_a_stop_signal_of_an_act_is_not_the_routines() -> None:
    signals = (sent(15, 0.0), sent(15, 0.2, actor="gracekill:destroy-at"))
    for acts, status in (
        (ActsSeen(), "broken"),
        (ActsSeen(actors=frozenset({signals[1].actor})), "ok"),
    ):
        verdict = judge("escalation", signals=signals, acts=acts)
        assert isinstance(verdict, Verdict)
        assert verdict.status == status, verdict


def test_what_the_routine_was_held_for_does_not_count_against_it() -> None:
    late = {"returned_ns": at(2.0)}
    held = {**late, "acts": ActsSeen(pauses=((at(0.5), at(1.2)), (at(1.3), at(1.9))))}
    slow, prompt = judge("promptness", **late), judge("promptness", **held)
    assert isinstance(slow, Verdict)
    assert isinstance(prompt, Verdict)
    assert (slow.word, prompt.word) == ("SLOW", "ok")
    assert prompt.evidence == "1000.0 ms after the exit, of which it was held for 800.0 ms"
    failed = Call(success=False, result=False, error=None, elapsed=2.0)
    gave_up = ActsSeen(pauses=((at(0.995), at(1.995)),))
    for acts, word in ((ActsSeen(), "LIED"), (gave_up, "ok")):
        verdict = judge("outcome", call=failed, acts=acts, **late)
        assert isinstance(verdict, Verdict)
        assert verdict.word == word, verdict
    over: dict[str, Any] = {
        "holds": (hold("driver", ROUTINE, 0.0, 1.9),),
        "waits": (wait("driver", "gracekill:b", 0.1, 1.8),),
    }
    over["contenders"] = (contender("b", (0.1, 1.8)),)
    for acts, words in (
        (ActsSeen(), ("HELD OVER WAIT", "STALLED")),
        (ActsSeen(pauses=((at(0), at(1.8)),)), ("ok", "ok")),
    ):
        for name, word in zip(("locks", "progress"), words, strict=True):
            verdict = judge(name, acts=acts, **late, **over)
            assert isinstance(verdict, Verdict)
            assert verdict.word == word, verdict
    # what is left of its wait is too short to disturb anybody, however much of it a lock was held
    over["waits"] = (wait("driver", "gracekill:b", 0.0, 1.8),)
    for pauses, word in (((at(0.5), at(1.2)), "STALLED"), ((at(0.12), at(1.9)), "ok")):
        verdict = judge("progress", acts=ActsSeen(pauses=(pauses,)), **late, **over)
        assert isinstance(verdict, Verdict)
        assert verdict.word == word, verdict


@pytest.mark.parametrize(
    ("failure", "ended", "reaped", "word"),
    [
        # whatever the failure, 20 ms are enough to know, and so is a zombie that is gone
        (None, 0.5, False, "LIED"),
        (TimeoutError(), 0.5, False, "RAISED"),
        (None, 1.0, True, "LIED"),
        (TimeoutError(), 1.0, True, "RAISED"),
        # a wait that has run out just then could not know
        (None, 1.0, False, "ok"),
        (TimeoutError(), 1.0, False, "ok"),
        (subprocess.TimeoutExpired("vm", 1), 1.0, False, "ok"),
        (type("PoolTimedOut", (Exception,), {})(), 1.0, False, "ok"),
        # anything else is raised for an end that had come
        (RuntimeError("no session"), 1.0, False, "RAISED"),
        (ProcessLookupError(), 1.0, False, "RAISED"),
        # or had not
        (RuntimeError("no session"), 1.0005, False, "ok"),
    ],
)
def test_a_failure_is_held_against_what_the_routine_could_know(
    failure: BaseException | None,
    ended: float,
    reaped: bool,  # noqa: FBT001 - a column of the table above
    word: str,
) -> None:
    verdict = judge(
        "outcome",
        call=Call(success=False, result=False, error=failure, elapsed=1.0),
        returned_ns=at(1.0002),
        exit_ns=at(ended),
        ended_at_return=ended <= 1.0002,
        knew_the_end=reaped,
    )
    assert isinstance(verdict, Verdict)
    assert verdict.word == word, verdict


def test_a_lost_block_of_an_unheard_request_is_laid_to_that() -> None:
    killed: dict[str, Any] = {**KILLED, "journal": (), "audit": audit(lost=[1])}
    heard = judge("data", **killed, knobs=Knobs(flush_time=2.0))
    assert isinstance(heard, Verdict)
    assert (heard.word, heard.also) == ("DATA LOST", ())
    changes = {**killed, "signals": (UNHEARD, sent(9, 0.6)), "knobs": Knobs(flush_time=0.1)}
    data, escalation = judge("data", **changes), judge("escalation", **changes)
    assert isinstance(data, Verdict)
    assert isinstance(escalation, Verdict)
    assert (data.word, data.also, escalation.status) == ("DATA LOST", ("UNHEARD",), "ok")
    assert "SIGTERM was not heard: the VM was stopped" in data.evidence
    assert "SIGCONT" in data.advice


def test_signals_to_others_stand_apart() -> None:
    verdict = judge("escalation", signals=(sent(15, 0.0), ELSEWHERE))
    assert isinstance(verdict, Verdict)
    assert verdict.evidence == "SIGTERM t+0.000; SIGTERM to 7 (qemu), not the VM"


def test_a_signal_to_the_pid_of_a_vm_that_has_ended_is_said_so() -> None:
    late = sent(9, 2.0, to="nobody", target="pid 4711 (no process)", comm=None, reached_vm=False)
    verdict = judge("escalation", signals=(sent(15, 0.0), late))
    assert isinstance(verdict, Verdict)
    assert verdict.evidence == "SIGTERM t+0.000; SIGKILL t+2.000 after the VM's end"


HANDLERS: dict[str, Any] = {"journal": (said("handlers", -0.1),)}
STARTED_LATE: dict[str, Any] = {
    "suspects": Suspects(processes=(StartedProcess(at_ns=at(0.9), text="sh -c stop"),))
}
OUT_OF_MEMORY: dict[str, Any] = {
    "suspects": dataclasses.replace(STARTED["suspects"], oom_kills=2),
}
KILLED_BY_TERM = KillResult(ok=True, dead=True, signal=15, elapsed=1.0, sent=(15,))
OWNER: dict[str, Any] = {"suspects": Suspects(owner=4710)}
AGAIN = Start(pid=4712, at_ns=at(1.2), by="pid 1 (init)")
STILL_LOCKED = Leftovers(started=1, orphans=(), locked=(DISK,))
DAMAGED_JOURNAL = Disturbance(what="journal", by="outside", text="the journal is gone")
FAULT = Disturbance(what="fault", by="outside", text="the fake failed: OSError")


def thread_ended(alive: float, gone: float) -> dict[str, Any]:
    thread = EndedThread(name="pool-0", alive_ns=at(alive), gone_ns=at(gone))
    return {"suspects": Suspects(thread=thread)}


UNKNOWN: list[tuple[str, str, dict[str, Any]]] = [
    ("data", "journal is gone", {"audit": audit(problem="the journal is gone")}),
    # given more than it needs, and still behind: the machine's fault, nobody else's
    (
        "data",
        "machine was too busy",
        {**KILLED, "audit": audit(lost=[63]), "knobs": Knobs(flush_time=0.5)},
    ),
    # it stops the flush at a second request, and there was none
    (
        "data",
        "machine was too busy",
        {
            **KILLED,
            "audit": audit(lost=[63]),
            "knobs": Knobs(flush_time=0.5, on_second_term="abort"),
        },
    ),
    # nobody of the trial sent it
    ("data", "SIGKILL ended the VM at t+0.610", {**KILLED_UNSEEN, "audit": audit(lost=[63])}),
    ("data", "lost: 62-63", {**KILLED_UNSEEN, "audit": audit(lost=[62, 63])}),
    ("data", "nobody saw it being sent", KILLED_UNSEEN),
    ("data", "SIGSEGV ended the VM", {**KILLED_UNSEEN, "exit": SEGV, "audit": audit(lost=[63])}),
    ("escalation", "nobody saw it being sent", KILLED_UNSEEN),
    ("escalation", "nobody saw it being sent", {**KILLED_UNSEEN, **UNASKED, **HANDLERS}),
    ("escalation", "nobody saw it being sent", {**KILLED_UNSEEN, "promise__force": False}),
    # what was started later than the VM died has not killed it
    ("escalation", "from outside", {**KILLED_UNSEEN, **STARTED, **STARTED_LATE}),
    # nor has the end of a thread that was long ago, or came later
    ("escalation", "from outside", {**KILLED_UNSEEN, **thread_ended(0.2, 0.21)}),
    ("escalation", "from outside", {**KILLED_UNSEEN, **thread_ended(0.7, 0.71)}),
    # a process could have sent it, and so could the kernel, which says that it has killed
    ("escalation", "(oom_kill +2)", {**KILLED_UNSEEN, **OUT_OF_MEMORY}),
    ("data", "(oom_kill +2)", {**KILLED_UNSEEN, **OUT_OF_MEMORY, "audit": audit(lost=[63])}),
    ("outcome", "from outside", {**KILLED_UNSEEN, **FAILED}),
    (
        "outcome",
        "from outside",
        {**KILLED_UNSEEN, "exit": KILLED["exit"], "call__result": KILLED_BY_TERM},
    ),
    ("outcome", "from outside", {**KILLED_UNSEEN, "restarts": (AGAIN,)}),
    ("leftovers", "from outside", {**KILLED_UNSEEN, "leftovers": STILL_LOCKED}),
    # requests of others, who have no part in the trial: pid 1 sends them, see `seen`
    ("escalation", "own request never came", {"signals": (), **OWNER}),
    ("data", "from pid 1", {"audit": audit(lost=[63]), "signals": (), **OWNER}),
    # files that others have damaged
    ("data", "truncated", {"audit": audit(lost=ALL, damaged="truncated", problem="truncated")}),
    ("escalation", "journal is gone", {"damage": (DAMAGED_JOURNAL,), "journal": ()}),
    ("outcome", "journal is gone", {"damage": (DAMAGED_JOURNAL,), **LIVES_ON}),
    # the fake itself has failed
    ("data", "the fake failed", {"damage": (FAULT,), "audit": audit(lost=[63])}),
    ("outcome", "the fake failed", {"damage": (FAULT,), **FAILED, "returned_ns": at(2.0)}),
    # a process of ours was killed
    ("outcome", "the wrapper was ended", {"damage": (LOST_WRAPPER,)}),
    ("outcome", "the wrapper was ended", {"damage": (LOST_WRAPPER,), **ALIVE}),
    ("escalation", "the wrapper was ended", {"damage": (LOST_WRAPPER,), **LIVES_ON, **UNASKED}),
    ("promptness", "the wrapper was ended", {"damage": (LOST_WRAPPER,), "returned_ns": at(5.0)}),
    ("progress", "no operation at all", {"contenders": (contender("other-1"),)}),
    # nothing shows what the routine does to a VM that somebody else had ended before
    ("outcome", "was dead before the call", {"exit_ns": at(-1.0), "death_expected": False}),
    ("identity", "did not come to 'exit'", {"acts": ActsSeen(missed=("exit",))}),
    (
        "identity",
        "did not come to 'exit', where something was to be done; eof-at (unlocked) did not end",
        {"acts": ActsSeen(missed=("exit",), failed=("eof-at (unlocked) did not end",))},
    ),
]


@pytest.mark.parametrize(("name", "evidence", "changes"), UNKNOWN)
def test_unknown(name: str, evidence: str, changes: dict[str, Any]) -> None:
    verdict = judge(name, **changes)
    assert isinstance(verdict, Verdict), verdict
    assert (verdict.status, verdict.word) == ("unknown", "unknown")
    assert evidence in verdict.evidence


#: What stands although others have disturbed the trial.
CERTAIN: list[tuple[str, str, dict[str, Any]]] = [
    (
        "escalation",
        "STRANGER",
        {**KILLED_UNSEEN, "signals": (sent(15, 0.0, refused=True, reached_vm=False),)},
    ),
    (
        "escalation",
        "REPEATED",
        {**KILLED_UNSEEN, "signals": (sent(15, 0.0), sent(15, 0.1)), "journal": (seen(0.0),)},
    ),
    ("outcome", "EARLY", {**KILLED_UNSEEN, "alive_at_return": True, "returned_ns": at(0.3)}),
    # it had killed the VM before it had written these blocks, whatever the disk shows now
    (
        "data",
        "DATA LOST",
        {**KILLED, "audit": audit(lost=ALL, unwritten=[62, 63], damaged="gone", problem="gone")},
    ),
    ("escalation", "KILLED EARLY", {**KILLED, "damage": (LOST_WRAPPER,)}),
    ("data", "DATA LOST", {**KILLED, "damage": (LOST_WRAPPER,), "audit": audit(lost=[63])}),
]


def test_a_second_request_from_outside_is_no_repetition() -> None:
    changes: dict[str, Any] = {
        "signals": (sent(15, 0.0),),
        "knobs": Knobs(on_second_term="abort"),
        "promise__takes_driver": False,
    }
    ours = Entry(at_ns=at(0.001), event="signal", fields={"signal": 15, "pid": 4710})
    for suspects, status in ((Suspects(), "broken"), (Suspects(owner=4710), "ok")):
        verdict = judge("escalation", **changes, journal=(ours, seen(0.3)), suspects=suspects)
        assert isinstance(verdict, Verdict)
        assert verdict.status == status, verdict


@pytest.mark.parametrize(("name", "word", "changes"), CERTAIN)
def test_what_is_certain_stands(name: str, word: str, changes: dict[str, Any]) -> None:
    verdict = judge(name, **changes)
    assert isinstance(verdict, Verdict), verdict
    assert (verdict.status, verdict.word) == ("broken", word), verdict


def test_a_sigkill_to_a_vm_that_exits_for_long_may_have_ended_it() -> None:
    killed = KillResult(ok=True, dead=True, signal=9, elapsed=1.4, sent=(15, 9))
    changes: dict[str, Any] = {
        "signals": (sent(15, 0.0), sent(9, 1.1)),
        "call__result": killed,
        "returned_ns": at(1.6),
    }
    starved = judge("outcome", **changes, gone_ns=at(1.5))
    assert isinstance(starved, Verdict)
    assert starved.status == "ok", starved
    late = judge("outcome", **changes, gone_ns=at(1.05))
    assert isinstance(late, Verdict)
    assert late.word == "LIED", late


def test_a_death_by_a_thread_is_named_and_no_grace_is_advised() -> None:
    for changes in (KILLED_UNSEEN, {**KILLED_UNSEEN, **HANDLERS}):
        verdict = judge("escalation", **changes, suspects=Suspects(thread=ENDED))
        assert isinstance(verdict, Verdict)
        assert "PR_SET_PDEATHSIG: thread pool-0" in verdict.evidence
        assert "grace=" not in verdict.advice
        assert "give the flush" not in verdict.advice
        assert "keep the thread" in verdict.advice


@pytest.mark.parametrize(
    ("name", "cause", "changes"),
    [
        ("data", "machine", {**KILLED, "audit": audit(lost=[63]), "knobs": Knobs(flush_time=0.5)}),
        ("escalation", "machine", {**KILLED_UNSEEN, **OUT_OF_MEMORY}),
        ("escalation", "outside", KILLED_UNSEEN),
        ("data", "outside", {"audit": audit(lost=ALL, damaged="truncated", problem="truncated")}),
        ("outcome", "outside", {"exit_ns": at(-1.0), "death_expected": False}),
        ("progress", "", {"contenders": (contender("other-1"),)}),
        ("data", "", {}),
    ],
)
def test_who_made_it_unknown(name: str, cause: str, changes: dict[str, Any]) -> None:
    verdict = judge(name, **changes)
    assert isinstance(verdict, Verdict)
    assert verdict.cause == cause


def test_a_kill_from_outside_is_no_sigkill_of_the_routine() -> None:
    assert not sigkill_sent(change(RIGHT, **KILLED_UNSEEN))
    assert sigkill_sent(change(RIGHT, **KILLED_UNSEEN, **STARTED))


def report(**changes: Any) -> Report:
    found, not_judged = verdicts.judge(change(RIGHT, **changes))
    return Report(
        Judgement(
            verdicts=found,
            not_judged=not_judged,
            disk=audit(),
            calls=(RIGHT.call,),
            history=History(),
        )
    )


def test_a_check_that_crashes_is_unknown_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_: Evidence) -> Verdict:
        raise ZeroDivisionError("in the check")

    monkeypatch.setitem(verdicts.JUDGES, "locks", crash)
    broken = report()
    assert not broken.ok
    assert broken.verdicts["locks"].status == "unknown"
    assert "ZeroDivisionError: in the check" in broken.verdicts["locks"].evidence
    with pytest.raises(AssertionError, match="gracekill: UNKNOWN locks"):
        broken.check()
    broken.check("data", "outcome")


# the evidence of a deadlock is made by the traced locks: tests/flaws has it
@pytest.mark.parametrize("name", [name for name in VERDICTS if name != "deadlock"])
def test_no_verdict_is_carried_by_anothers_luck(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Without its check a flaw that only this verdict sees slips through."""
    changes = next(changes for verdict, _, changes in BROKEN if verdict == name)
    assert not report(**changes).ok
    always_ok = Verdict(name=name, status="ok", word="ok", evidence="removed")
    monkeypatch.setitem(verdicts.JUDGES, name, lambda _: always_ok)
    assert report(**changes).verdicts[name].status == "ok"


def test_the_text_has_every_word_in_its_first_line_and_fits() -> None:
    text = str(report(audit=audit(lost=[62, 63], torn=[1]), **KILLED))
    first, *rest = text.splitlines()
    assert first == (
        "gracekill: DATA LOST (2 of 64 blocks: 62-63), TORN (blocks 1), KILLED EARLY, LIED"
    )
    assert max(map(len, rest)) <= 100
    assert [line.split()[0] for line in rest if line.startswith("  ") and line[2] != " "] == [
        *VERDICTS
    ]


def test_repr_is_one_line() -> None:
    assert repr(report()) == "<Report gracekill: ok>"
    assert "\n" not in repr(report(audit=audit(lost=[1])))


# -- several callers: each has its own view of the same VM


def other(**changes: Any) -> Caller:
    values: dict[str, Any] = {
        "actor": "gracekill:caller-2",
        "call": RIGHT.call,
        "called_ns": at(0.001),
        "returned_ns": at(1.002),
        "hung_in": (),
        "alive_at_return": False,
        "at_entry": LOCKS.at_entry,
        "at_return": LOCKS.at_return,
    }
    return Caller(**{**values, **changes})


RAISED = dataclasses.replace(RIGHT.call, success=False, result=None, error=ValueError("twice"))
CUT = dataclasses.replace(RIGHT.call, success=None, result=None, error=None)


@pytest.mark.parametrize(
    ("name", "word", "caller"),
    [
        ("outcome", "RAISED", other(call=RAISED, returned_ns=at(1.1))),
        ("outcome", "EARLY", other(returned_ns=at(0.5), alive_at_return=True)),
        ("promptness", "SLOW", other(returned_ns=at(1.6))),
        ("promptness", "HUNG", other(call=CUT, hung_in=SITE)),
        ("locks", "LOCK LOST", other(at_return=("driver",))),
    ],
)
def test_the_caller_that_is_broken_is_named(name: str, word: str, caller: Caller) -> None:
    verdict = judge(name, others=(other(actor="gracekill:caller-3"), caller))
    assert isinstance(verdict, Verdict)
    assert (verdict.status, verdict.word) == ("broken", word)
    assert verdict.evidence.startswith("caller-2: ")
    assert judge(name, others=(other(),)).evidence  # type: ignore[union-attr]


def test_a_stall_counts_until_the_last_caller_has_returned() -> None:
    """The first one is back at once; the second one stops everybody while it waits."""
    changes: dict[str, Any] = {
        "returned_ns": at(0.3),
        "contenders": (contender("other-1", (-0.1, -0.099)), users((-0.1, -0.09), (0.4, 2.4))),
    }
    alone = judge("progress", **changes)
    assert isinstance(alone, Verdict)
    assert alone.status == "ok"
    verdict = judge("progress", **changes, others=(other(returned_ns=at(2.5)),))
    assert isinstance(verdict, Verdict)
    assert verdict.word == "STALLED"
    assert verdict.evidence.startswith("status took 2.000 s during the wait")


def test_what_a_contender_had_taken_before_the_call_was_its_own() -> None:
    slow = users((-20.0, 1.5))
    verdict = judge("progress", contenders=(slow,), returned_ns=at(1.5))
    assert isinstance(verdict, Verdict)
    assert verdict.status == "ok"
    fast = users((-0.05, 1.5))
    verdict = judge("progress", contenders=(fast,), returned_ns=at(1.5))
    assert isinstance(verdict, Verdict)
    assert verdict.word == "STALLED"


def test_locks_that_nobody_took_are_unknown() -> None:
    for name in ("locks", "deadlock"):
        verdict = judge(
            name, lock_state__acquisitions=0, lock_state__at_entry=(), lock_state__at_return=()
        )
        assert isinstance(verdict, Verdict)
        assert (verdict.status, verdict.evidence) == (
            "unknown",
            "nobody took any of the 5 traced locks: nothing was seen",
        )
