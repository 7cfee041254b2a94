"""One trial, start to end: the one place where child, routine and witness meet.

A fake is started, contenders work, the routine is called in the thread that asked for the trial
(some routines need the main thread), and everything that was seen is handed to the verdicts.
Whatever happens, nothing of the trial is left running, and every name that was replaced is what it
was.
"""

from __future__ import annotations

import gc
from contextlib import ExitStack, contextmanager
from math import inf
from typing import TYPE_CHECKING, TypeVar

from pytest_gracekill import circumstances, clock, permitted
from pytest_gracekill.aftermath import await_request, await_reuse, ends_by_itself
from pytest_gracekill.alone import alone
from pytest_gracekill.calls import Callers, Seen
from pytest_gracekill.child.journal import first_run
from pytest_gracekill.child.launch import READY_WITHIN
from pytest_gracekill.child.unstarted import SHOWS_WITHIN
from pytest_gracekill.errors import StartError, UsageError
from pytest_gracekill.judgement import Judgement
from pytest_gracekill.legible import error_text
from pytest_gracekill.participants import Participants
from pytest_gracekill.passing import is_outcome, passes_through
from pytest_gracekill.promises import budget_of, claims_success, notes_of, promise_of, unread
from pytest_gracekill.report import Call
from pytest_gracekill.routine.adapt import MANAGERS
from pytest_gracekill.routine.offered import offer
from pytest_gracekill.routine.policy import KillPolicy
from pytest_gracekill.routine.session import Session
from pytest_gracekill.underway import TrialUnderway
from pytest_gracekill.verdicts import judge
from pytest_gracekill.verdicts.claims import line_of_mistake
from pytest_gracekill.verdicts.evidence import SHORT_NS, Caller, Evidence
from pytest_gracekill.verdicts.progress import longest
from pytest_gracekill.verdicts.requests import SIGKILL, requests_of, sigkill_sent
from pytest_gracekill.witness import signal_audit
from pytest_gracekill.witness.sites import line_of
from pytest_gracekill.witness.watchdog import Watchdog

T = TypeVar("T")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from pytest_gracekill.child.unstarted import Unstarted
    from pytest_gracekill.trial import Plan
    from pytest_gracekill.witness.history import Frame

#: Seconds that an adapter has to start its VM, and to clean up.
START_WITHIN = 60.0
END_WITHIN = 30.0


def run(plan: Plan, underway: TrialUnderway | None = None) -> Judgement:
    """Run one trial.

    :param underway: is told what is going on.
    :raises StartError: the fake did not become ready.
    :raises UsageError: the adapter cannot be used so, or another trial runs in this process;
        nothing is left running.
    :raises KeyboardInterrupt: the user interrupted; the trial has been cleared away.
    """
    __tracebackhide__ = True
    with ExitStack() as stack:
        # within an exploration time is simulated: this is what has to be reported there
        stack.enter_context(alone(f"the trial of {plan.routine.name}"))
        permitted.check(subreaper=plan.routine.kind == "external")
        clock.check()
        if plan.routine.asynchronous:
            clock.check_loop()
        signal_audit.install()
        stack.enter_context(_without_collector())
        underway = underway or TrialUnderway()
        trial = _Trial(plan, Participants(plan, stack), underway)
        trial.begin(stack)
        evidence = trial.call()
        failed = trial.end()
        verdicts, not_judged = judge(evidence)
        if isinstance(failed, UsageError):
            raise failed
        return Judgement(
            verdicts=verdicts,
            not_judged=not_judged,
            disk=evidence.audit,
            calls=(evidence.call, *(caller.call for caller in evidence.others)),
            history=trial.who.history,
            longest_stall=longest(evidence, during=True) if evidence.contenders else None,
            sigkill_sent=sigkill_sent(evidence),
            clean_up=failed,
            circumstances=circumstances.of(plan, evidence),
            notes=(*trial.notes, *notes_of(plan, evidence.knobs)),
        )


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keep Python's cyclic garbage collector from stopping every thread in the middle of a trial.

    The contenders' records make it run, and with a large heap one full collection takes seconds.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _Trial:
    def __init__(self, plan: Plan, who: Participants, underway: TrialUnderway) -> None:
        self.plan = plan
        self.who = who
        self._underway = underway
        self._session = Session(plan.routine, who.unstarted, plan.given)
        #: What else is to be told, beside the verdicts.
        self.notes: tuple[str, ...] = ()
        #: Whether nothing but the adapter can have made the VM end, or start again.
        self._undisturbed = True

    # -- the adapter's other steps

    def begin(self, stack: ExitStack) -> None:
        """Have the VM running, by whoever starts it, and everybody at work."""
        __tracebackhide__ = True
        stack.push(self._abandon)
        if self._starts_in_the_call:
            self.who.enter(stack)
            self._session.begin(self._offered())
            return
        if self.who.unstarted is not None:
            self._step("start", START_WITHIN, self._begin_session)
            self.who.enter(stack)
        else:
            self.who.enter(stack)
            self._session.begin(self._offered())

    def _begin_session(self) -> None:
        __tracebackhide__ = True
        self._session.begin(self._offered())

    @property
    def _starts_in_the_call(self) -> bool:
        routine = self.plan.routine
        return routine.kind == "child" and routine.form not in MANAGERS

    def end(self) -> BaseException | None:
        """Let the adapter clean up; returns what that has raised."""
        __tracebackhide__ = True
        self._underway.begins("the adapter cleans up", seconds=min(END_WITHIN, self._allowed()))
        try:
            self._step("clean-up", END_WITHIN, self._session.end)
        except BaseException as error:
            if passes_through(error):
                raise
            return error  # what the trial has found is told first
        if self.who.unstarted is not None and self._undisturbed:
            self.who.unstarted.check_started_once(self.plan.routine, called=True)
        return None

    def _abandon(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """The clean-up of a trial that did not come to its end; a second one does nothing."""
        try:
            self._step("clean-up", END_WITHIN, self._session.end)
        except BaseException as another:
            if error is None or passes_through(another):
                raise
            # what has ended the trial is what is told
            error.add_note(
                f"the clean-up of the adapter {self.plan.routine.name} failed, too:"
                f" {error_text(another)}{line_of(another)}"
            )

    def _step(self, name: str, seconds: float, step: Callable[[], object]) -> None:
        """Run a step of the adapter that is not judged; StartError when it hangs."""
        __tracebackhide__ = True

        def free() -> None:
            self._session.free()
            self.who.kill_vm()

        seconds = min(seconds, self._allowed())
        watchdog = Watchdog(seconds, free)
        raised: BaseException | None = None
        try:
            with self.who.recorder.guarding(), watchdog:
                step()
        except BaseException as error:
            if not watchdog.expired or passes_through(error):
                raise
            raised = error.__cause__ or error  # by the end of what it had waited for
        if watchdog.expired:
            raise StartError(
                f"the {name} of the adapter {self.plan.routine.name} did not end within"
                f" {seconds:.3g} s; it stood in {self._line_of(watchdog.hung_in)}"
                f" (from {self.plan.routine.source})"
            ) from raised

    def _line_of(self, stack: Sequence[Frame]) -> str:
        """The adapter's own line, rather than where in a library it waited."""
        own = [frame for frame in stack if frame.file == self.plan.routine.file]
        if not own and (awaits := self._session.awaits_in) is not None:
            own = [awaits]
        return str((own or stack)[0]) if stack else "an unknown place"

    # -- the call

    def call(self) -> Evidence:
        """Have the routine called under the watchdog, and gather what was seen."""
        plan, who = self.plan, self.who
        if who.started_vm is not None:
            self._session.check_start(who.vm.pid)
        who.note_end()
        who.choreograph()
        budget = self._budget()
        latest = clock.monotonic() + max(budget, self._allowed())
        callers = Callers(self._session, who, number=plan.callers, budget=budget, latest=latest)
        self._underway.begins("the routine runs", seconds=budget)
        self._underway.has(who.started_vm)
        seen_by = callers.perform()
        self._underway.begins("the routine has returned")
        self._underway.has(who.started_vm)
        first, *others = seen_by
        if who.unstarted is not None and self._starts_in_the_call:
            self._was_started(who.unstarted, seen_by)
        status = None if first.expired else self._status()
        success = {id(seen): self._claims_success(seen, status=status) for seen in seen_by}
        cut = any(seen.expired for seen in seen_by)
        told = any(success.values()) and not plan.nowait and not cut
        alive = all(seen.alive for seen in seen_by)
        if told and alive:
            self._meanwhile(
                lambda: await_request(who.vm, plan.settle, lambda: bool(who.requests_sent))
            )
        leftovers = who.leftovers() if told and not alive else None
        cut_alive = any(seen.expired and seen.alive for seen in seen_by)
        deadline_ns = first.called_ns + int(budget * 1e9)
        killed = any(s.signum == SIGKILL and s.reached_vm for s in who.recorder.sent)
        # a VM that survives SIGKILL for a while notes one that nobody here has seen being sent
        killed = killed or who.vm.journal.last("held") is not None
        ended_by_trial = cut_alive or (
            who.vm.alive
            and not self._meanwhile(lambda: ends_by_itself(who.vm, deadline_ns, killed=killed))
        )
        if who.vm.knobs.reuse_pid and not ended_by_trial:
            await_reuse(who.vm)
        starters = not (cut or ended_by_trial) and who.starters_live(self._session.wardens)
        if (unstarted := who.unstarted) is not None and starters:
            self._meanwhile(lambda: unstarted.wait_restarted(plan.settle))
        who.quiesce()
        suspects = who.suspects(self._session.wardens)
        self._undisturbed = not (cut or ended_by_trial)
        if who.unstarted is not None and not cut:
            who.unstarted.check_started_once(plan.routine, called=True)
        if ended_by_trial:
            who.vm.kill()
        journal = first_run(who.vm.journal.entries())
        for entry in journal:
            who.history.record(entry.event, "fake", entry.at_ns, **entry.fields)
        exit_ = who.vm.exit
        who.note_evidence(ended_by_trial=ended_by_trial)
        asked = requests_of(journal)
        audit = who.vm.disk.audit(journal)
        self.notes = tuple(self._notes(first.called_ns))
        return Evidence(
            knobs=who.vm.knobs,
            promise=promise_of(plan, who.vm.knobs, budget),
            call=self._call_of(first, success=success[id(first)]),
            called_ns=first.called_ns,
            returned_ns=first.returned_ns,
            hung_in=first.hung_in,
            hung_command=first.hung_command,
            routine_actor=first.actor,
            first_request_ns=asked[0] if asked else None,
            signals=tuple(who.recorder.sent),
            journal=journal,
            exit=exit_,
            exit_ns=None if exit_ is None or ended_by_trial else int(exit_.at * 1e9),
            gone_ns=None if who.vm.gone_at is None else int(who.vm.gone_at * 1e9),
            alive_at_return=first.alive,
            ended_at_return=first.ended,
            knew_the_end=first.knew,
            death_expected=who.expects_death(journal, suspects),
            pending=tuple(who.pending),
            stopped=tuple(who.stopped),
            restarts=who.restarts(),
            ended_by_trial=ended_by_trial,
            audit=audit,
            suspects=suspects,
            damage=tuple(who.damage(audit, suspects)),
            holds=(
                *who.history.long_holds(SHORT_NS, always=first.actor),
                *who.untraced_holds(
                    frozenset(seen.actor for seen in seen_by),
                    first.called_ns,
                    max(seen.returned_ns for seen in seen_by),
                ),
            ),
            waits=tuple(who.history.long_waits(SHORT_NS)),
            lock_state=who.lock_state(first.at_entry, first.at_return),
            contenders=(*who.contenders, *who.loop_contenders),
            leftovers=leftovers,
            identity=None if who.driving is None else who.driving.seen(),
            acts=who.acts,
            beside=callers.beside,
            stood_still=tuple(who.standstills.gaps),
            interpreter_kept=tuple(who.standstills.kept),
            others=tuple(
                Caller(
                    actor=seen.actor,
                    call=self._call_of(seen, success=success[id(seen)]),
                    called_ns=seen.called_ns,
                    returned_ns=seen.returned_ns,
                    hung_in=seen.hung_in,
                    hung_command=seen.hung_command,
                    alive_at_return=seen.alive,
                    ended_at_return=seen.ended,
                    knew_the_end=seen.knew,
                    at_entry=seen.at_entry,
                    at_return=seen.at_return,
                )
                for seen in others
            ),
        )

    def _notes(self, origin_ns: int) -> Iterator[str]:
        """What was seen beside what is judged."""

        def stamp(at_ns: int) -> str:
            return f"t{(at_ns - origin_ns) / 1e9:+.3f}"

        failed = self._session.start_failed_meanwhile(self.who.vm.pid, stamp)
        if failed is not None:
            yield failed

    def _was_started(self, unstarted: Unstarted, seen_by: Sequence[Seen]) -> None:
        """A routine that starts the VM in its own call has done so."""
        unstarted.check_started_once(self.plan.routine, called=True)
        if not unstarted.wait_started(SHOWS_WITHIN):
            error = seen_by[0].error
            if error is not None and is_outcome(error):
                raise error  # there was no VM yet: it is the test that is skipped
            raise self._session.never_started() from error
        unstarted.ready_vm(READY_WITHIN)
        for seen in seen_by:
            # it may have returned before the VM had come to say that it is there
            if not seen.shown:
                # where the call was cut off, the VM was ended with it
                seen.alive = seen.expired or not self.who.vm_ended_within_tolerance()

    def _status(self) -> bool | None:
        """What the manager says of the VM after the call."""
        says: list[bool | None] = []
        self._step("status", END_WITHIN, lambda: says.append(self._session.status()))
        return says[0]

    # -- before the call

    def _offered(self) -> dict[str, object]:
        who = self.who
        running = who.unstarted is None
        return offer(
            self.plan.routine,
            flags=self.plan.flags,
            policy=self.plan.policy or KillPolicy(),
            vm=who.vm if running else None,
            unstarted=who.unstarted,
            model=(None, None) if who.driving is None else (who.driving.driver, who.driving.domain),
        )

    def _budget(self) -> float:
        return min(budget_of(self.plan), self._allowed())

    def _allowed(self) -> float:
        """Seconds that all calls may take together."""
        if self.plan.deadline is None:
            return inf
        # our verdict comes before pytest-timeout's: it ends the test, and we tell why
        left = self.plan.deadline - clock.monotonic()
        return max(left * 0.8 - 1.0, left / 2, 0.1)

    # -- after the call

    def _claims_success(self, seen: Seen, *, status: bool | None) -> bool | None:
        if seen.expired:
            return None
        killed = seen.error is not None and self._was_killed(seen)
        claimed = claims_success(self.plan, seen.result, seen.error, killed=killed)
        # a manager that says that the VM runs has not reported that it is gone
        return claimed and (self.plan.succeeded is not None or not status)

    def _call_of(self, seen: Seen, *, success: bool | None) -> Call:
        return Call(
            success=success,
            result=seen.result,
            error=seen.error,
            elapsed=(seen.returned_ns - seen.called_ns) / 1e9,
            raised_at=line_of_mistake(seen.error),
            unread="" if seen.expired else unread(self.plan, seen.result),
        )

    def _meanwhile(self, wait: Callable[[], T]) -> T:
        """Wait for something while what the routine has left in its event loop goes on."""
        if not self._session.asynchronous:
            return wait()
        with self.who.recorder.guarding():
            return self._session.runner.run(_in_thread(wait))

    def _was_killed(self, seen: Seen) -> bool:
        """Whether the VM was dead at the return, by a SIGKILL of the routine or its commands."""
        if seen.alive:
            return False
        sent = self.who.recorder.sent
        if any(signal.signum == SIGKILL and signal.reached_vm for signal in sent):
            return True
        ended = self.who.vm.exit
        by_kill = ended is not None and ended.signal == SIGKILL
        return by_kill and bool(self.who.suspects(self._session.wardens).processes)


async def _in_thread(wait: Callable[[], T]) -> T:
    import asyncio  # noqa: PLC0415 - for routines that have a loop

    return await asyncio.to_thread(wait)
