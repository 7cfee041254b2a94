"""A kill routine, its callers and contenders, and a simulated VM: the trial as a scenario.

The verdicts are those of a trial. Under the clock *explore* a thread may stand for as long as
another one's timer takes although nothing holds it up: how long something took is no finding there,
and neither is a stall.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from pytest_gracekill import circumstances
from pytest_gracekill.driving import ACTS, OTHERS, TARGET
from pytest_gracekill.errors import UsageError
from pytest_gracekill.explore.locks import Lock
from pytest_gracekill.explore.objects import SimulatedPopen
from pytest_gracekill.explore.processes import await_end
from pytest_gracekill.explore.stuck import deadlock_in, raise_not_simulated
from pytest_gracekill.explore.tasks import Task, current
from pytest_gracekill.explore.vm import SimulatedVm
from pytest_gracekill.promises import budget_of, claims_success, promise_of
from pytest_gracekill.report import Call, NotJudged, Report, Verdict
from pytest_gracekill.routine.adapt import name_of
from pytest_gracekill.routine.callers import monitor_eof
from pytest_gracekill.routine.domain import Domain
from pytest_gracekill.routine.flags import KillFlags
from pytest_gracekill.routine.model import Driver, UnknownDomainError
from pytest_gracekill.routine.policy import KillPolicy
from pytest_gracekill.verdicts import JUDGES, deadlock, judge
from pytest_gracekill.verdicts.evidence import (
    REQUESTS,
    SHORT_NS,
    ActsSeen,
    Caller,
    Evidence,
    IdentitySeen,
    LockState,
)
from pytest_gracekill.witness.history import History
from pytest_gracekill.witness.identity import CleanUp, FreedUse
from pytest_gracekill.witness.signals import OTHER_RUN, SentSignal
from pytest_gracekill.witness.sites import Frame, current_stack

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gracekill.explore.processes import Sent
    from pytest_gracekill.explore.run import Run
    from pytest_gracekill.explore.scenario import Words
    from pytest_gracekill.routine.incarnation import Incarnation
    from pytest_gracekill.routine.owned_lock import Lockable
    from pytest_gracekill.trial import Plan
    from pytest_gracekill.witness.dead_end import AnyDeadlock
    from pytest_gracekill.witness.history import RawHeld, RawWait

ROUTINE = "gracekill:routine"

#: What a contender waits for that may never come.
_AWAITS_EOF = "waits for the end of file of"
_AWAITS_CALL = "waits for the call"

#: What says nothing where time passes beside threads that could go on.
_NEEDS_JUMP = "judged under clock='jump' only: here time passes beside threads that could go on"
#: Words for a signal that came too soon, or not before somebody has waited in vain.
_DEPENDS_ON_TIME = ("KILLED EARLY", "NEVER KILLED")


#: What changes a domain.
_CHANGES = ("begin()", "begin_job()", "end_job()", "clean_up()", "tear_down()")
#: What everybody may do without the domain's lock.
_UNGUARDED = ("lock", "ref()", "unref()")


class _Domain(Domain):
    """A domain of the model whose uses are seen by the search.

    Under its lock they belong to the operation in which they are; whatever is done without the lock
    is an operation of its own, before which others may come.
    """

    __slots__ = ("_being_destroyed", "_bit", "_job")

    def __init__(self, name: str, lock: Lockable | None, notices: Notices) -> None:
        self._bit = notices.run.new_bit()
        super().__init__(name, lock, notices)
        # one step at a time: nothing can come between
        self._guard = nullcontext()  # type: ignore[assignment]

    def _used(self, what: str) -> None:
        # one reference more or less concerns nobody, the last one does
        self._step("uses", what, what in _CHANGES or (what == "unref()" and self._refs <= 1))
        super()._used(what)

    def _step(self, verb: str, what: str, changes: bool) -> None:  # noqa: FBT001 - of `_used` alone
        task = current()
        if task is None:
            return
        guarded = getattr(self._lock, "owner", task) is task
        if not guarded and what not in _UNGUARDED:
            named = f"{what} of domain {self.name}"
            task.run.perform(task, verb, named, self._bit, reads=not changes)
        elif changes:
            task.touch(self._bit)
        else:
            task.look(self._bit)

    @property
    def being_destroyed(self) -> bool:
        self._used("being_destroyed")
        return self._being_destroyed

    @being_destroyed.setter
    def being_destroyed(self, value: bool) -> None:
        self._step("sets", "being_destroyed", changes=True)
        self._being_destroyed = value

    @property
    def job(self) -> str | None:
        self._used("job")
        return self._job

    @job.setter
    def job(self, value: str | None) -> None:
        self._step("sets", "job", changes=True)
        self._job = value


class Notices:
    """Takes down what becomes of the domains of one schedule."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.uses: list[FreedUse] = []
        self.clean_ups: list[CleanUp] = []

    def used_after_free(self, domain: str, what: str) -> None:
        actor, at_ns, site = self._now()
        self.uses.append(FreedUse(domain=domain, what=what, actor=actor, at_ns=at_ns, site=site))

    def torn_down(self, domain: str, incarnation: Incarnation | None) -> None:
        run = None if incarnation is None else incarnation.id
        actor, at_ns, site = self._now()
        self.clean_ups.append(
            CleanUp(domain=domain, incarnation=run, actor=actor, at_ns=at_ns, site=site)
        )

    def _now(self) -> tuple[str, int, Frame | None]:
        task = current()
        actor = "setup" if task is None else task.name
        site: Frame | None = None
        if self.run.recorded and task is not None and task.worker is not None:
            stack = current_stack(task.worker.ident)
            site = stack[0] if stack else None
        return actor, self.run.now, site


@dataclass(slots=True)
class Explored:
    """A contender, as the verdicts see one: it does its operation once."""

    name: str
    task: Task | None = None
    by_latency: bool = False
    spans: list[tuple[int, int]] = field(default_factory=list)
    error: BaseException | None = None
    raised_ns: int | None = None
    began: int | None = None

    @property
    def actor(self) -> str:
        return f"gracekill:{self.name}"

    @property
    def operations(self) -> int:
        return len(self.spans)


@dataclass(slots=True)
class _Called:
    """One call of the routine."""

    actor: str
    task: Task | None = None
    called_ns: int | None = None
    returned_ns: int | None = None
    at_entry: tuple[str, ...] = ()
    at_return: tuple[str, ...] = ()
    alive: bool = True
    alive_seen: bool = True
    result: object = None
    error: BaseException | None = None
    victim: int = 1


class _Stage:
    """What there is in one schedule."""

    def __init__(self, run: Run, plan: Plan) -> None:
        self.run = run
        self.notices = Notices(run)
        self.vm = SimulatedVm(run, plan.knobs, "the VM")
        run.target = self.vm
        self.driver: Driver | None = None
        self.domain: Domain | None = None
        self.victim: Incarnation | None = None
        self.calls: list[_Called] = []
        self.contenders: list[Explored] = []
        self.actors: set[str] = set()
        self.traced: dict[str, Lock] = {}
        self.acted = False


class KillScenario:
    """The same question as a trial's, over schedules."""

    def __init__(
        self, plan: Plan, contenders: tuple[str, ...], prepare_named: Callable[[Run], None]
    ) -> None:
        self._plan = plan
        self._contenders = contenders
        self._prepare_named = prepare_named
        self._stages: dict[int, _Stage] = {}
        self._known: dict[object, Words] = {}
        self._seen_ok: set[str] = set()
        self._seen_unknown: dict[str, str] = {}
        self._stage: _Stage | None = None
        self.budget = budget_of(plan)
        beside = (*contenders, *map(name_of, plan.contend))
        self.scope = f"{plan.routine.name} called by {_counted(plan.callers, 'thread')}"
        if beside:
            self.scope += f" beside {', '.join(beside)}, each once"
        parts = [
            plan.routine.name,
            plan.routine.kind,
            *contenders,
            str(plan.knobs),
            str(int(plan.flags)),
            str(plan.policy),
            plan.lookup,
            str(plan.callers),
            *(name for _, name in plan.locks),
            *map(name_of, plan.contend),
        ]
        self.identity = "\n".join(parts)

    # -- before

    def prepare(self, run: Run) -> None:
        plan = self._plan
        run.latest = run.now + round((self.budget) * 1e9)
        stage = self._stage = _Stage(run, plan)
        self._prepare_named(run)
        if plan.routine.kind == "driver":
            self._define(stage)
        for number in range(plan.callers):
            name = ROUTINE if number == 0 else f"gracekill:caller-{number + 1}"
            called = _Called(actor=name)
            stage.calls.append(called)
            called.task = run.add(name, lambda called=called: self._call(stage, called))  # type: ignore[misc] # bound now
        counts: dict[str, int] = {}
        for kind in self._contenders:
            counts[kind] = counts.get(kind, 0) + 1
            self._contend(stage, f"{kind}-{counts[kind]}", self._operation(stage, kind), kind)
        for work in plan.contend:
            self._contend(stage, name_of(work), work, "")

    def _define(self, stage: _Stage) -> None:
        made = stage.traced

        def make_lock(name: str) -> Lockable:
            if name not in made:
                made[name] = Lock(name, stage.run)
            return cast("Lockable", made[name])

        stage.driver = Driver(
            lookup=self._plan.lookup,
            make_lock=make_lock,
            notices=stage.notices,
            make_domain=cast("Callable[..., Domain]", _Domain),
        )
        stage.domain = stage.driver.define(TARGET, stage.vm)
        stage.victim = stage.domain.incarnation
        if set(self._contenders) & {"other", "list"}:
            stage.driver.define(OTHERS[0])

    def _contend(
        self, stage: _Stage, name: str, operation: Callable[[], object], kind: str
    ) -> None:
        contender = Explored(name)
        stage.contenders.append(contender)
        run = stage.run
        if kind in ACTS and kind != "eof":
            stage.actors.add(contender.actor)

        def work() -> None:
            contender.began = run.now
            operation()
            contender.spans.append((contender.began, run.now))

        contender.task = run.add(contender.actor, work)

    def _operation(self, stage: _Stage, kind: str) -> Callable[[], object]:
        driver, run = stage.driver, stage.run
        if driver is None:
            raise UsageError(f"contenders={kind!r}: the routine takes no driver")

        def look_up(which: str) -> None:
            with driver.look_up(which) as domain:
                if domain is None and self._caller_has_reference:
                    raise LookupError(f"domain {which!r} is not defined any more")

        def define() -> None:
            driver.define("new")
            driver.undefine("new")

        def eof() -> None:
            task = current()
            assert task is not None
            assert stage.victim is not None
            await_end(task, [stage.vm], None, _AWAITS_EOF)
            monitor_eof(driver, TARGET, stage.victim)

        def once_called(act: Callable[[], object]) -> Callable[[], object]:
            def work() -> None:
                task = current()
                assert task is not None
                run.perform(
                    task, _AWAITS_CALL, "", stage.vm.mask, lambda: _is_called(stage), reads=True
                )
                act()

            return work

        def destroy() -> None:
            try:
                driver.destroy(TARGET, KillFlags.FORCE)
            except UnknownDomainError:
                return  # it has been undefined

        return {
            "other": lambda: look_up(OTHERS[0]),
            "same": lambda: look_up(TARGET),
            "list": driver.list_all,
            "define": define,
            "eof": eof,
            "destroy": once_called(destroy),
            "restart": once_called(lambda: self._restart(stage)),
            "undefine": once_called(lambda: driver.undefine(TARGET)),
        }[kind]

    def _restart(self, stage: _Stage) -> None:
        driver = stage.driver
        assert driver is not None
        assert stage.victim is not None
        with driver.lock:
            domain = driver.find(TARGET)
            if domain is not None:
                with domain.lock:
                    domain.clean_up(stage.victim)
                    domain.being_destroyed = False
            pid = max(stage.run.vms) + 1
            other = SimulatedVm(stage.run, stage.vm.knobs, f"{OTHER_RUN} (pid {pid})")
            driver.define(TARGET, other)

    @property
    def _caller_has_reference(self) -> bool:
        return "undefine" not in self._contenders

    # -- the call

    def _call(self, stage: _Stage, called: _Called) -> object:
        plan, run = self._plan, stage.run
        task = called.task
        assert task is not None
        driver, domain = stage.driver, stage.domain
        if driver is not None and domain is not None:
            if self._caller_has_reference:
                domain.ref()
            driver.lock.acquire()
            domain.lock.acquire()
        called.at_entry = tuple(lock.name for lock in task.held)
        offered: dict[str, object] = {
            "flags": plan.flags,
            "policy": plan.policy or KillPolicy(),
            "grace": (plan.policy or KillPolicy()).grace,
            "timeout": (plan.policy or KillPolicy()).grace,
            "driver": driver,
            "domain": domain,
        }
        kind = plan.routine.kind
        if kind == "pid":
            offered["pid"] = stage.vm.pid
        elif kind == "popen":
            offered["popen"] = SimulatedPopen(stage.vm)
        elif kind == "process":
            import psutil  # noqa: PLC0415 - replaced for tasks by now

            offered["process"] = psutil.Process(stage.vm.pid)
        policy = set() if plan.policy is None else {"policy", "grace", "timeout"}
        given = frozenset({"flags"} | policy)
        called.called_ns = run.now
        task.touch(stage.vm.mask)  # who waits for the call may go on
        try:
            called.result = plan.routine.call(offered, given)
        except Exception as error:  # noqa: BLE001 - whatever it raises is evidence
            called.error = error
        finally:
            if not run.abandoning:
                called.returned_ns = run.now
                called.at_return = tuple(lock.name for lock in task.held)
                called.alive = not stage.vm.ended()
                called.alive_seen = task.alive_seen.get(stage.vm.pid, called.alive)
        for lock in reversed(list(task.held)):
            lock.release()
        return None

    # -- after

    def words(self, run: Run) -> Words:
        stage = self._stage
        assert stage is not None
        assert stage.run is run
        raise_not_simulated(stage.run.tasks, [called.error for called in stage.calls])
        self._let_end(stage)
        key = self._signature(stage)
        known = self._known.get(key)
        if known is None:
            report = self._judged(stage)
            for name, verdict in report.verdicts.items():
                if verdict.status == "unknown":
                    self._seen_unknown.setdefault(name, verdict.evidence)
                else:
                    self._seen_ok.add(name)
            known = self._known[key] = tuple(
                (name, word)
                for name, verdict in report.verdicts.items()
                if verdict.status == "broken"
                for word in (verdict.word, *(also.split(" (")[0] for also in verdict.also))
            )
        return known

    def unjudged(self) -> str:
        return "; ".join(
            f"{name}: {why}"
            for name, why in self._seen_unknown.items()
            if name not in self._seen_ok
        )

    def report(self, run: Run) -> Report:
        stage = self._stage
        assert stage is not None
        assert stage.run is run
        return self._judged(stage)

    def _let_end(self, stage: _Stage) -> None:
        """Give a VM that was asked to stop the time that it needs, as a trial does."""
        vm, run = stage.vm, stage.run
        if vm.ended_at is not None and not vm.ended() and run.outcome != "stuck":
            run.now = vm.ended_at

    def _signature(self, stage: _Stage) -> object:
        """Everything that a verdict could read, in a form that can be compared."""
        run, vm = stage.run, stage.vm
        return (
            run.outcome,
            run.now if run.outcome == "late" else 0,
            tuple(
                (
                    c.called_ns,
                    c.returned_ns,
                    c.at_entry,
                    c.at_return,
                    c.alive,
                    c.alive_seen,
                    repr(c.result),
                    _named_error(c.error),
                )
                for c in stage.calls
            ),
            tuple(run.signals),
            (tuple(vm.taken), vm.ended_at, vm.gone_at, vm.code, vm.killed_by, vm.begun),
            tuple((event, at) for at, event, _ in vm.log),
            tuple((lock.name, hold[0].name, hold[1], until) for lock, hold, until in run.holds),
            tuple((w[0].name, w[1].name, w[2], w[3], w[4], w[5]) for w in run.waits),
            tuple((c.name, tuple(c.spans), self._error_of(c)) for c in stage.contenders),
            tuple((use.domain, use.what, use.actor, use.at_ns) for use in stage.notices.uses),
            tuple((c.domain, c.incarnation, c.actor, c.at_ns) for c in stage.notices.clean_ups),
            tuple(
                (task.name, since, until)
                for task, since, until in run.delays
                if task.name == ROUTINE
            ),
            tuple(
                (index, s.kind, str(s.what), None if s.owner is None else s.owner.name)
                for index, s in run.standing.items()
            ),
        )

    def _error_of(self, contender: Explored) -> object:
        task = contender.task
        return None if task is None else _named_error(task.error)

    def _judged(self, stage: _Stage) -> Report:
        found = deadlock_in(stage.run, benign=self._benign(stage))
        evidence = self._evidence(stage, found)
        if found is not None:
            verdict = deadlock.judge(evidence)
            assert not isinstance(verdict, NotJudged)
            reason = "the schedule ends in a deadlock"
            verdicts = {"deadlock": verdict}
            not_judged = {name: reason for name in JUDGES if name != "deadlock"}
        else:
            verdicts, not_judged = judge(evidence)
            if stage.run.explores_time:
                self._drop_what_needs_jump(verdicts, not_judged)
        return Report(
            verdicts=verdicts,
            not_judged=not_judged,
            disk=evidence.audit,
            calls=(evidence.call, *(caller.call for caller in evidence.others)),
            history=self._history(stage, evidence),
            sigkill_sent=evidence.killed_ns is not None,
            circumstances=circumstances.of(self._plan, evidence),
        )

    def _drop_what_needs_jump(
        self, verdicts: dict[str, Verdict], not_judged: dict[str, str]
    ) -> None:
        for name in ("promptness", "progress", "escalation"):
            verdict = verdicts.get(name)
            if verdict is None:
                continue
            if name == "progress" and verdict.status == "broken":
                continue  # it has raised
            if name == "escalation" and verdict.word not in _DEPENDS_ON_TIME:
                continue
            del verdicts[name]
            not_judged[name] = _NEEDS_JUMP

    def _benign(self, stage: _Stage) -> frozenset[str]:
        """Who may wait for ever: for an end of the VM that does not come."""
        return frozenset(
            f"gracekill:{contender.name}"
            for contender in stage.contenders
            if contender.task is not None and contender.task.kind in (_AWAITS_EOF, _AWAITS_CALL)
        )

    def _evidence(self, stage: _Stage, found: AnyDeadlock | None) -> Evidence:
        plan, run, vm = self._plan, stage.run, stage.vm
        nowait = bool(plan.flags & KillFlags.NOWAIT and plan.routine.takes("flags"))
        views = [self._view(stage, called, run) for called in stage.calls]
        first, *others = views
        exit_ = vm.exit()
        ended_by_trial = exit_ is None
        journal = vm.journal(1_000_000_000_000)
        asked = [entry.at_ns for entry in journal if entry.event in REQUESTS]
        contenders = self._contending(stage, run)
        history = self._history_of_locks(run)
        jump = not run.explores_time
        return Evidence(
            knobs=vm.knobs,
            promise=promise_of(plan, vm.knobs, self.budget, nowait=nowait),
            call=first.call,
            called_ns=first.called_ns,
            returned_ns=first.returned_ns,
            hung_in=first.hung_in,
            routine_actor=first.actor,
            first_request_ns=asked[0] if asked else None,
            signals=tuple(_sent(signal) for signal in run.signals),
            journal=journal,
            exit=exit_,
            exit_ns=vm.ended_at if exit_ is not None else None,
            gone_ns=vm.ended_at if exit_ is not None else None,
            alive_at_return=first.alive_at_return,
            ended_by_trial=ended_by_trial,
            audit=vm.audit(),
            holds=tuple(history.long_holds(SHORT_NS, always=first.actor)) if jump else (),
            waits=tuple(history.long_waits(SHORT_NS)) if jump else (),
            lock_state=self._lock_state(run, first, found),
            contenders=contenders,
            leftovers=None,
            identity=None
            if stage.domain is None or stage.victim is None
            else IdentitySeen(
                domain=TARGET,
                incarnation=stage.victim.id,
                uses=tuple(stage.notices.uses),
                clean_ups=tuple(stage.notices.clean_ups),
            ),
            acts=ActsSeen(
                pauses=tuple(
                    (since, until)
                    for task, since, until in run.delays
                    if task is stage.calls[0].task
                ),
                actors=frozenset(stage.actors),
            ),
            others=tuple(others),
        )

    def _contending(self, stage: _Stage, run: Run) -> tuple[Explored, ...]:
        for contender in stage.contenders:
            task = contender.task
            assert task is not None
            contender.error, contender.raised_ns = task.error, task.raised_ns
            if contender.began is not None and not contender.spans and task.error is None:
                # it stands in its operation: what it has suffered so far counts
                contender.spans = [(contender.began, run.now)]
        if run.explores_time:
            return tuple(c for c in stage.contenders if c.error is not None)
        return tuple(stage.contenders)

    def _view(self, stage: _Stage, called: _Called, run: Run) -> Caller:
        task = called.task
        assert task is not None
        returned = called.returned_ns is not None
        called_ns = run.now if called.called_ns is None else called.called_ns
        returned_ns = run.now if called.returned_ns is None else called.returned_ns
        success = claims_success(self._plan, called.result, called.error) if returned else None
        alive = called.alive if returned else not stage.vm.ended()
        if returned and not success and run.explores_time:
            # what it could know is what it saw when it last looked, or what a thread of its own
            # has told it, which may have come too late
            alive = called.alive_seen or (bool(run.delays) and _has_waited_in_vain(called.error))
        hung_in: tuple[Frame, ...] = ()
        if not returned and run.recorded:
            standing = run.standing.get(task.index)
            hung_in = () if standing is None else standing.stack
        return Caller(
            actor=called.actor,
            call=Call(
                success=success,
                result=called.result,
                error=called.error,
                elapsed=(returned_ns - called_ns) / 1e9,
            ),
            called_ns=called_ns,
            returned_ns=returned_ns,
            hung_in=hung_in,
            alive_at_return=alive,
            at_entry=called.at_entry,
            at_return=called.at_return if returned else called.at_entry,
        )

    def _lock_state(self, run: Run, first: Caller, found: AnyDeadlock | None) -> LockState | None:
        if not run.locks:
            return None
        return LockState(
            traced=len(run.locks),
            acquisitions=run.acquisitions,
            at_entry=first.at_entry,
            at_return=first.at_return,
            deadlocks=() if found is None else (found,),
            # an order that has a cycle deadlocks in some schedule, or in none: that is looked at
            cycles=(),
        )

    def _history_of_locks(self, run: Run) -> History:
        history = History()
        # the shape is the same: a lock, a thread and a site by their names
        history.raw_holds.extend(cast("list[RawHeld]", run.holds))
        history.raw_waits.extend(cast("list[RawWait]", run.waits))
        return history

    def _history(self, stage: _Stage, evidence: Evidence) -> History:
        history = self._history_of_locks(stage.run)
        history.origin_ns = evidence.called_ns
        if not stage.run.recorded:
            return history
        for entry in evidence.journal:
            history.record(entry.event, "fake", entry.at_ns, **entry.fields)
        for step in stage.run.steps:
            site = None if step.site is None else str(step.site)
            history.record("step", step.actor, step.at_ns, text=step.text, site=site)
        return history


def _is_called(stage: _Stage) -> bool:
    return stage.calls[0].called_ns is not None


def _sent(sent: Sent) -> SentSignal:
    return SentSignal(
        at_ns=sent.at_ns,
        signum=sent.signum,
        target=sent.target,
        actor=sent.actor,
        reached_vm=sent.reached_vm,
        refused=sent.refused,
        errno=sent.errno,
        site=sent.site,
        other_run=sent.target.startswith(OTHER_RUN),
        held=sent.held,
    )


def _named_error(error: BaseException | None) -> object:
    return None if error is None else (type(error).__name__, str(error))


def _has_waited_in_vain(error: BaseException | None) -> bool:
    """Whether a failure may be one of time: it was returned, or says so."""
    return error is None or "Timeout" in type(error).__name__


def _counted(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"
