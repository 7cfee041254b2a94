"""How the VM was asked to stop, and what ended it: each request as sent, reached, and heard.

A request is *sent* when the recorder saw a signal go to the VM, it has *reached* the VM when the
kernel accepted it or the VM's journal notes it, and it is *heard* when the VM has begun the flush
after which it exits. What a command or C code sent is seen only by its effect on the VM.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_gracekill.data.requests import Deadly, Request, Unheard, signal_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_gracekill.child.journal import Entry
    from pytest_gracekill.data.requests import Reason, Sender
    from pytest_gracekill.verdicts.evidence import Evidence
    from pytest_gracekill.witness.signals import SentSignal

#: SIGKILL by number: Windows has no such name, and this module is imported there.
SIGKILL = 9

#: SIGHUP, SIGINT and SIGTERM: QEMU takes the three alike.
STOP_SIGNALS = (1, 2, 15)

#: A VM with PR_SET_PDEATHSIG dies with the thread that forked it: within so many nanoseconds.
THREAD_ENDED_NS = 50_000_000

#: The journal's events for a request that a VM has taken: a signal, a QMP command, a power-off
#: under `-no-shutdown`.
_TAKEN = ("signal", "qmp", "halt")

#: The journal's event for the power button, which a guest sees only while it runs.
_BUTTON = "powerdown"

#: What shows that a VM has heard a request: it flushes for its end, has halted, or exits by itself.
_HEARD = ("flush_begin", "halt", "exit", "crash")

#: What to change, by the reason: never more grace.
CURES: dict[Reason, str] = {
    "stopped": "resume the VM (SIGCONT), so that it can act on the request",
    "blocked": "unblock the signal before the VM is started: a child inherits the signal mask",
    "ignored": "reset the signal to its default before the VM is started: a child inherits what is"
    " ignored",
    "paused": "a paused guest does not see the power button: resume it (QMP cont), or ask QEMU"
    " itself by SIGTERM or QMP quit",
    "not ready": "wait until the VM is ready before it is asked to stop",
    "refused": "a VM that does not act on a request loses what it has not flushed, however long the"
    " grace is: find out why it refuses",
}


def requests_of(journal: Iterable[Entry]) -> list[int]:
    """When a VM took a request to stop, by its journal, in CLOCK_MONOTONIC nanoseconds."""
    return [entry.at_ns for entry in journal if entry.event in _TAKEN]


def flushes_for_its_end(entry: Entry) -> bool:
    """Whether this entry begins the flush after which the VM exits, not that of QMP stop."""
    return entry.event == "flush_begin" and entry.fields.get("reason", "exit") == "exit"


def heard_ns(journal: Iterable[Entry]) -> int | None:
    """When the VM heard a request, by what it did then; None when it never did."""
    for entry in journal:
        if entry.event in _HEARD and (entry.event != "flush_begin" or flushes_for_its_end(entry)):
            return entry.at_ns
    return None


def requests(evidence: Evidence) -> tuple[Request, ...]:
    """Every request that reached the VM, oldest first."""
    heard = heard_ns(evidence.journal)
    found = sorted(_requests(evidence), key=lambda request: request.at_ns)
    if heard is not None:
        found = [_heard(request) if request.at_ns <= heard else request for request in found]
    return tuple(found)


def _heard(request: Request) -> Request:
    """The request of a VM that has heard one: this one, unless it was never taken."""
    never = request.reached_ns is None and request.unheard is not None
    return request if never else replace(request, unheard=None)


def effective(found: Iterable[Request]) -> Request | None:
    """The first request from which a VM could begin its flush; None where there was none."""
    listed = list(found)
    return next((r for r in listed if r.unheard is None), listed[0] if listed else None)


def _requests(evidence: Evidence) -> Iterator[Request]:
    sent = [s for s in evidence.signals if s.signum in STOP_SIGNALS and s.reached_vm]
    for entry in evidence.journal:
        if entry.event == "signal":
            number = entry.number("signal")
            outside = _from_outside(evidence, entry)
            by = None if outside else _sender(sent, number, entry.at_ns)
            if by is not None:
                sent.remove(by)
            yield Request(
                # a real storage daemon does not say which signal stopped it
                name=signal_name(number) if number > 0 else "a stop request",
                # one that could not be heard when it was sent counts from when it was taken
                sent_ns=None if by is None or by.unheard is not None else by.at_ns,
                reached_ns=entry.at_ns,
                unheard=_refusal(evidence),
                outside=outside,
            )
        elif entry.event in ("qmp", "halt"):
            yield Request(
                name=f"QMP {entry.fields['command']}",
                sent_ns=None,
                reached_ns=entry.at_ns,
                unheard=_refusal(evidence),
            )
        elif entry.event == _BUTTON and not entry.fields.get("heard", False):
            yield Request(
                name="QMP system_powerdown",
                sent_ns=None,
                reached_ns=entry.at_ns,
                unheard=Unheard(
                    reason="paused",
                    text=f"the guest was {entry.fields.get('status', 'paused')}",
                ),
            )
    for left in sent:
        yield Request(
            name=signal_name(left.signum),
            sent_ns=left.at_ns,
            reached_ns=None,
            unheard=left.unheard,
        )
    seen = {s.signum for s in evidence.signals if s.reached_vm}
    for pending in evidence.pending:
        # where the signal was seen being sent, that is the request
        if pending.signum not in seen:
            yield Request(
                name=signal_name(pending.signum),
                sent_ns=None,
                reached_ns=pending.at_ns,
                unheard=pending.unheard,
            )


def _from_outside(evidence: Evidence, entry: Entry) -> int | None:
    """The pid of a signal's sender, where no process of the trial can have been that."""
    owner, pid = evidence.suspects.owner, entry.fields.get("pid")
    # the kernel itself, and processes of another pid namespace, have 0
    if owner is None or not isinstance(pid, int) or pid in (0, owner):
        return None
    forked = any(signal.actor == f"forked child {pid}" for signal in evidence.signals)
    return None if forked or started_before(evidence, entry.at_ns) else pid


def _sender(sent: list[SentSignal], signum: int, at_ns: int) -> SentSignal | None:
    """The signal that the VM noted: the last one of this number that was sent before."""
    before = [s for s in sent if s.signum == signum and s.at_ns <= at_ns]
    # signals of one number that are pending at once become one: the first one made it so
    return before[0] if before else None


def _refusal(evidence: Evidence) -> Unheard | None:
    if evidence.knobs.on_term == "refuse":
        return Unheard(reason="refused", text="the VM refused it")
    if evidence.knobs.on_term == "ignore":
        return Unheard(reason="refused", text="the VM does not act on it")
    return None


def deadly(evidence: Evidence) -> Deadly | None:
    """The signal that ended the VM: as recorded, or by its effect when nobody saw it being sent.

    One that nobody saw is the routine's where a process that the routine or its adapter had started
    could have sent it, or where the thread that had forked the VM had just ended.

    None for a VM that ended by itself, that the trial ended, that was dead before the call, or that
    died of a stop request since it had no handler for it.
    """
    for signal in evidence.signals:
        if signal.reached_vm and _is_deadly(evidence, signal):
            return Deadly(at_ns=signal.at_ns, signum=signal.signum, sender="recorded")
    if evidence.exit_ns is None or evidence.dead_before:
        return None
    signum = _died_of(evidence)
    if signum is None or signum in STOP_SIGNALS:
        return None
    return Deadly(at_ns=evidence.exit_ns, signum=signum, sender=_sender_of_unseen(evidence))


def _sender_of_unseen(evidence: Evidence) -> Sender:
    suspects, ended_ns = evidence.suspects, evidence.ended_ns
    assert ended_ns is not None
    if suspects.oom_kills:
        return "oom"
    thread = suspects.thread
    if thread is not None and thread.alive_ns <= ended_ns <= thread.gone_ns + THREAD_ENDED_NS:
        return "thread"
    return "routine" if started_before(evidence, ended_ns) else "outside"


def started_before(evidence: Evidence, at_ns: int) -> bool:
    """Whether the routine or its adapter had started any process but the VM by then."""
    return any(p.at_ns is None or p.at_ns < at_ns for p in evidence.suspects.processes)


def _is_deadly(evidence: Evidence, signal: SentSignal) -> bool:
    ended = evidence.exit
    if ended is None or (ended.code is None and ended.signal is None):
        return signal.signum == SIGKILL
    if ended.signal == signal.signum:
        # SIGABRT, say, is no kinder to what has not been flushed
        return signal.signum not in STOP_SIGNALS
    # one to a VM that has ended by itself, whose group is swept then, has killed nobody
    too_late = evidence.exit_ns is not None and signal.at_ns >= evidence.exit_ns
    return signal.signum == SIGKILL and not too_late


def _died_of(evidence: Evidence) -> int | None:
    """The signal by the status, or, where the routine or init has eaten that, by the journal.

    A VM that has its handlers in writes how it ends, unless it is killed.
    """
    events = {entry.event for entry in evidence.journal}
    if evidence.exit is None or "crash" in events:
        return None
    if evidence.exit.code is not None or evidence.exit.signal is not None:
        return evidence.exit.signal
    return SIGKILL if "handlers" in events and "exit" not in events else None


def sigkill_sent(evidence: Evidence) -> bool:
    """Whether SIGKILL of the routine reached the VM before its end, or ended it."""
    found = deadly(evidence)
    if found is not None and not found.by_routine:
        return False
    if found is not None and found.signum == SIGKILL:
        return True
    return any(s.signum == SIGKILL and s.reached_vm for s in evidence.signals) and found is not None


def unheard(evidence: Evidence) -> Request | None:
    """The request that explains why the grace did not help, where the routine killed the VM.

    None where a request was heard, or where no reason is known: a machine that was too busy, say.
    """
    found = requests(evidence)
    if evidence.cut_short:
        # that a VM refuses is seen when its time is over; what cannot be heard never will be
        found = tuple(request for request in found if not _refused(request))
    if not found or heard_ns(evidence.journal) is not None or evidence.dead_before:
        return None
    if deadly(evidence) is None and not _died_of_request(evidence):
        return None
    return next((request for request in found if request.unheard is not None), None)


def _refused(request: Request) -> bool:
    return request.unheard is not None and request.unheard.reason == "refused"


def _died_of_request(evidence: Evidence) -> bool:
    """Whether it died of a stop signal by its default action, though it was to have handlers."""
    return (
        evidence.exit is not None
        and evidence.exit.signal in STOP_SIGNALS
        and evidence.knobs.on_term != "default"
    )


def was_flushed(evidence: Evidence) -> bool:
    """Whether it ended with status 0 after a flush: it was asked, if by a channel not seen."""
    by_itself = evidence.exit is not None and evidence.exit.code == 0
    return by_itself and any(flushes_for_its_end(entry) for entry in evidence.journal)
