"""One trial, start to end: the one place where child, routine and witness meet.

A fake is started, contenders work, the routine is called in the thread that asked for the trial
(some routines need the main thread), and everything that was seen is handed to the verdicts.
Whatever happens, nothing of the trial is left running, and every name that was replaced is what it
was.
"""

from __future__ import annotations

import gc
import threading
import time
from contextlib import ExitStack, contextmanager
from math import isfinite
from typing import TYPE_CHECKING

from pytest_gracekill.participants import JOIN, Participants
from pytest_gracekill.report import Call, Report
from pytest_gracekill.routine.flags import KillFlags
from pytest_gracekill.routine.policy import KillPolicy
from pytest_gracekill.verdicts import judge
from pytest_gracekill.verdicts.evidence import SHORT_NS, SIGKILL, TOLERANCE, Evidence, Promise
from pytest_gracekill.verdicts.progress import longest
from pytest_gracekill.witness.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gracekill.child.knobs import Knobs
    from pytest_gracekill.trial import Plan


def run(plan: Plan) -> Report:
    """Run one trial.

    :raises StartError: the fake did not become ready.
    :raises KeyboardInterrupt: the user interrupted; the trial has been cleared away.
    """
    with ExitStack() as stack:
        stack.enter_context(_without_collector())
        trial = _Trial(plan, Participants(plan, stack))
        evidence = trial.call()
        verdicts, not_judged = judge(evidence)
        return Report(
            verdicts=verdicts,
            not_judged=not_judged,
            disk=evidence.audit,
            calls=(evidence.call,),
            history=trial.who.history,
            longest_stall=longest(evidence, during=True) if evidence.contenders else None,
            sigkill_sent=evidence.killed_ns is not None,
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
    def __init__(self, plan: Plan, who: Participants) -> None:
        self.plan = plan
        self.who = who
        self._alive_at_cut = False

    def call(self) -> Evidence:
        """Call the routine under the watchdog, and gather what was seen."""
        plan, who, me = self.plan, self.who, threading.current_thread().name
        budget = self._budget()
        offered = self._offered()
        given = frozenset({"flags"} | ({"policy"} if plan.policy is not None else set()))
        result: object = None
        error: Exception | None = None
        at_entry = who.take()
        watchdog = Watchdog(budget, self._free)
        called_ns = time.monotonic_ns()
        who.history.origin_ns = called_ns
        who.history.record("call", me, called_ns)
        with watchdog:
            try:
                result = plan.routine.call(offered, given)
            except Exception as raised:  # noqa: BLE001 - raising is one way to report a failure
                error = raised
        returned_ns = time.monotonic_ns()
        who.history.record("return", me, returned_ns)
        who.recorder.exempt.add(threading.get_ident())
        at_return = who.held()
        success = None if watchdog.expired else self._claims_success(result, error)
        nowait = bool(plan.flags & KillFlags.NOWAIT and plan.routine.takes("flags"))
        alive = self._alive_at_cut if watchdog.expired else not self._ended_within(TOLERANCE)
        leftovers = who.leftovers() if success and not nowait and not alive else None
        who.let_go()
        ended_by_trial = alive and not self._ends(called_ns + int(budget * 1e9))
        who.quiesce()
        if ended_by_trial:
            who.vm.kill()
        journal = tuple(who.vm.journal.entries())
        for entry in journal:
            who.history.record(entry.event, "fake", entry.at_ns, **entry.fields)
        exit_ = who.vm.exit
        stops = [entry.at_ns for entry in journal if entry.event == "signal"]
        return Evidence(
            knobs=who.vm.knobs,
            promise=self._promise(budget, nowait=nowait),
            call=Call(
                success=success,
                result=result,
                error=error,
                elapsed=(returned_ns - called_ns) / 1e9,
            ),
            called_ns=called_ns,
            returned_ns=returned_ns,
            hung_in=watchdog.hung_in,
            routine_actor=me,
            first_request_ns=stops[0] if stops else None,
            signals=tuple(who.recorder.sent),
            journal=journal,
            exit=exit_,
            exit_ns=None if exit_ is None or ended_by_trial else int(exit_.at * 1e9),
            alive_at_return=alive,
            ended_by_trial=ended_by_trial,
            audit=who.vm.disk.audit(),
            holds=tuple(who.history.long_holds(SHORT_NS, always=me)),
            waits=tuple(who.history.long_waits(SHORT_NS)),
            lock_state=who.lock_state(at_entry, at_return),
            contenders=tuple(who.contenders),
            leftovers=leftovers,
        )

    # -- before the call

    def _offered(self) -> dict[str, object]:
        """What the routine may ask for by name."""
        plan, vm = self.plan, self.who.vm
        policy = plan.policy or KillPolicy()
        offered: dict[str, object] = {
            "flags": plan.flags,
            "policy": policy,
            "grace": policy.grace,
            "timeout": policy.grace,
        }
        kind = plan.routine.kind
        if kind == "driver":
            offered.update(driver=self.who.driver, domain=self.who.domain)
        elif kind == "pid":
            offered["pid"] = vm.started_pid
        elif kind == "popen":
            offered["popen"] = vm.popen
        else:
            import psutil  # noqa: PLC0415 - costs 10 ms, and few routines want it

            offered["process"] = psutil.Process(vm.started_pid)
        return offered

    def _budget(self) -> float:
        plan = self.plan
        policy = plan.policy or KillPolicy()
        budget = plan.budget
        if budget is None:
            budget = policy.grace + policy.reap + _longest_end(plan.knobs) + 5.0
        if plan.deadline is not None:
            # our verdict comes before pytest-timeout's: it ends the test, and we tell why
            left = plan.deadline - time.monotonic()
            budget = min(budget, max(left * 0.8 - 1.0, left / 2, 0.1))
        return budget

    def _promise(self, budget: float, *, nowait: bool) -> Promise:
        plan, knobs = self.plan, self.who.vm.knobs
        force = plan.force
        if force is None and plan.routine.takes("flags"):
            force = bool(plan.flags & KillFlags.FORCE)
        survive = plan.survive
        if survive is None and knobs.ends_by_itself:
            survive = knobs.flush_total
        return Promise(
            force=force,
            nowait=nowait,
            survive=survive,
            grace=None if plan.policy is None else plan.policy.grace,
            takes_driver=plan.routine.kind == "driver",
            slack=plan.slack,
            stall_limit=plan.stall_limit,
            budget=budget,
        )

    def _free(self) -> None:
        """The watchdog's: end everything that the call may wait for."""
        self.who.recorder.exempt.add(threading.get_ident())
        self._alive_at_cut = self.who.vm.alive
        self.who.vm.kill()

    # -- after the call

    def _claims_success(self, result: object, error: Exception | None) -> bool:
        if error is not None:
            return False
        if self.plan.succeeded is not None:
            return bool(self.plan.succeeded(result))
        return result is not False and getattr(result, "ok", True) is not False

    def _ended_within(self, seconds: float) -> bool:
        try:
            self.who.vm.wait(seconds)
        except TimeoutError:
            return False
        return True

    def _ends(self, deadline_ns: int) -> bool:
        """Give a VM that was asked to stop and is still flushing the time that it needs."""
        vm = self.who.vm
        asked = any(entry.event == "signal" for entry in vm.journal.entries())
        killed = any(s.signum == SIGKILL and s.reached_vm for s in self.who.recorder.sent)
        if killed:
            return self._ended_within(JOIN)
        if not asked or not vm.knobs.ends_by_itself:
            return False
        left = (deadline_ns - time.monotonic_ns()) / 1e9
        return self._ended_within(max(left, _longest_end(vm.knobs)))


def _longest_end(knobs: Knobs) -> float:
    """Seconds from the stop request to the exit; for an endless flush, its ``flush_time``."""
    total = knobs.flush_total
    return (total if isfinite(total) else knobs.flush_time) + knobs.linger
