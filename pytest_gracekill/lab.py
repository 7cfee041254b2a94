"""One trial, start to end: the one place where child, routine and witness meet.

A fake is started, contenders work, the routine is called in the thread that asked for the trial
(some routines need the main thread), and everything that was seen is handed to the verdicts.
Whatever happens, nothing of the trial is left running, and every name that was replaced is what it
was.
"""

from __future__ import annotations

import subprocess
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count, cycle, islice
from math import isfinite
from typing import TYPE_CHECKING

from pytest_gracekill.child.handle import FakeQemu, spawn
from pytest_gracekill.errors import UsageError
from pytest_gracekill.report import Call, Report
from pytest_gracekill.routine.flags import KillFlags
from pytest_gracekill.routine.model import Domain, Driver, Lookup
from pytest_gracekill.routine.policy import KillPolicy
from pytest_gracekill.settings import KINDS
from pytest_gracekill.verdicts import judge
from pytest_gracekill.verdicts.evidence import SIGKILL, TOLERANCE, Evidence, LockState, Promise
from pytest_gracekill.verdicts.progress import longest
from pytest_gracekill.witness.contenders import Contender, stop_all
from pytest_gracekill.witness.history import History
from pytest_gracekill.witness.leftovers import Leftovers, Orphan, look
from pytest_gracekill.witness.locks import LockTracer, TracedLock
from pytest_gracekill.witness.signals import SignalRecorder, pid_of
from pytest_gracekill.witness.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pytest_gracekill.child.knobs import Knobs
    from pytest_gracekill.routine.adapt import Adapted

#: The name of the domain whose VM is killed, and those that are only looked up.
TARGET = "vm"
OTHERS = ("other-1", "other-2", "other-3")

_WARM_UP = 10.0
_JOIN = 2.0
_OWN_CHILD = ("child", "wrapped", "leaderless")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a trial is to do; every value has been checked.

    ``vm``: a VM that runs already, else one is started with ``knobs`` in ``directory``.
    ``deadline``: CLOCK_MONOTONIC seconds by which the trial should have ended, or None.
    """

    routine: Adapted
    knobs: Knobs
    directory: Path
    vm: FakeQemu | None
    flags: KillFlags
    policy: KillPolicy | None
    force: bool | None
    survive: float | None
    slack: float
    stall_limit: float
    contenders: tuple[str, ...]
    lookup: Lookup
    succeeded: Callable[[object], bool] | None
    budget: float | None
    deadline: float | None


def default_topology(kind: str) -> str:
    """Who reaps the VM of a routine of this kind: its manager, or somebody else as for libvirt."""
    return "child" if kind in ("popen", "process") else "reaped"


def kinds_of(contenders: int | str | Sequence[str]) -> tuple[str, ...]:
    """The kind of each contender: a number is spread evenly over the kinds."""
    if isinstance(contenders, int):
        return tuple(islice(cycle(KINDS), contenders))
    return (contenders,) if isinstance(contenders, str) else tuple(contenders)


def longest_end(knobs: Knobs) -> float:
    """Seconds from the stop request to the exit; for an endless flush, its ``flush_time``."""
    total = knobs.flush_total
    return (total if isfinite(total) else knobs.flush_time) + knobs.linger


def fits(routine: Adapted, knobs: Knobs) -> None:
    """Check that the routine can be handed a VM of this topology.

    :raises UsageError: a routine that takes our own child was given somebody else's.
    """
    if routine.kind in ("popen", "process") and knobs.topology not in _OWN_CHILD:
        raise UsageError(
            f"topology={knobs.topology!r}: a routine that takes {routine.kind!r} needs a child of"
            f" our own: {', '.join(_OWN_CHILD)}"
        )


def run(plan: Plan) -> Report:
    """Run one trial.

    :raises StartError: the fake did not become ready.
    :raises KeyboardInterrupt: the user interrupted; the trial has been cleared away.
    """
    return _Trial(plan).run()


class _Trial:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.history = History()
        self.tracer: LockTracer | None = None
        self.driver: Driver | None = None
        self.domain: Domain | None = None
        self.contenders: list[Contender] = []
        self.vm: FakeQemu
        self.recorder: SignalRecorder
        self.alive_at_cut = False

    def run(self) -> Report:
        plan = self.plan
        with ExitStack() as stack:
            if plan.vm is None:
                own_child = plan.routine.kind in ("popen", "process")
                # a pipe as idioms with communicate() expect it; the fake writes nothing to it
                stdout = subprocess.PIPE if own_child else subprocess.DEVNULL
                self.vm = spawn(plan.knobs, plan.directory, stdout=stdout)
                stack.callback(self.vm.close)
            else:
                self.vm = plan.vm
            self.recorder = stack.enter_context(SignalRecorder(self.whose, self.history))
            if plan.routine.kind == "driver":
                self.tracer = LockTracer(self.history)
                self._model(self.tracer)
            stack.callback(self._quiesce)
            self._start_contenders()
            return self._report(self._call())

    # -- what takes part

    def whose(self, pid: int) -> str | None:
        """What a process is to this trial: the VM, one of its helpers, or a stranger (None)."""
        if pid == self.vm.pid:
            # the pidfd tells whether this number still is the VM
            return "the VM" if pid_of(self.vm.pidfd) == pid else None
        if pid in self.vm.processes():
            return "its wrapper" if pid == self.vm.started_pid else f"helper {pid}"
        return None

    def _model(self, tracer: LockTracer) -> None:
        made: dict[str, TracedLock] = {}

        def make_lock(name: str) -> TracedLock:
            # a name that is defined again and again is one lock: thousands tell nobody more
            if name not in made:
                made[name] = tracer.lock(name, class_=name.split(maxsplit=1)[0])
            return made[name]

        self.driver = Driver(lookup=self.plan.lookup, make_lock=make_lock)
        self.domain = self.driver.define(TARGET, self.vm)
        for name in OTHERS:
            self.driver.define(name)

    def _start_contenders(self) -> None:
        if self.driver is None:
            return
        numbers = {kind: count(1) for kind in KINDS}
        for kind in self.plan.contenders:
            name = f"{kind}-{next(numbers[kind])}"
            self.contenders.append(Contender(name, self._operation(kind, name), self.history))
        for contender in self.contenders:
            contender.start()
        deadline = time.monotonic() + _WARM_UP
        for contender in self.contenders:
            contender.wait_warm(deadline)

    def _operation(self, kind: str, name: str) -> Callable[[], object]:
        driver = self.driver
        assert driver is not None  # contenders have work only where there is a driver

        def look_up(which: str) -> None:
            with driver.look_up(which) as domain:
                if domain is None:
                    raise LookupError(f"domain {which!r} is not defined any more")

        def define() -> None:
            driver.define(f"new-{name}")
            driver.undefine(f"new-{name}")

        return {
            "other": lambda: look_up(OTHERS[0]),
            "same": lambda: look_up(TARGET),
            "list": driver.list_all,
            "define": define,
        }[kind]

    # -- the call

    def _offered(self) -> dict[str, object]:
        """What the routine may ask for by name."""
        plan, kind = self.plan, self.plan.routine.kind
        policy = plan.policy or KillPolicy()
        offered: dict[str, object] = {
            "flags": plan.flags,
            "policy": policy,
            "grace": policy.grace,
            "timeout": policy.grace,
        }
        if kind == "driver":
            offered.update(driver=self.driver, domain=self.domain)
        elif kind == "pid":
            offered["pid"] = self.vm.started_pid
        elif kind == "popen":
            offered["popen"] = self.vm.popen
        else:
            import psutil  # noqa: PLC0415 - costs 10 ms, and few routines want it

            offered["process"] = psutil.Process(self.vm.started_pid)
        return offered

    def _budget(self) -> float:
        plan = self.plan
        policy = plan.policy or KillPolicy()
        budget = plan.budget
        if budget is None:
            budget = policy.grace + policy.reap + longest_end(plan.knobs) + 5.0
        if plan.deadline is not None:
            # our verdict comes before pytest-timeout's: it ends the test, and we tell why
            left = plan.deadline - time.monotonic()
            budget = min(budget, max(left * 0.8 - 1.0, left / 2, 0.1))
        return budget

    def _call(self) -> Evidence:
        plan = self.plan
        budget = self._budget()
        offered = self._offered()
        given = frozenset({"flags"} | ({"policy"} if plan.policy is not None else set()))
        result: object = None
        error: Exception | None = None
        at_entry: tuple[str, ...] = ()
        if self.driver is not None and self.domain is not None:
            # the caller's own reference: the routine's is not enough
            self.domain.ref()
            self.driver.lock.acquire()
            self.domain.lock.acquire()
            at_entry = self._held()
        watchdog = Watchdog(budget, self._free)
        called_ns = time.monotonic_ns()
        self.history.origin_ns = called_ns
        self.history.record("call", threading.current_thread().name, called_ns)
        with watchdog:
            try:
                result = plan.routine.call(offered, given)
            except Exception as raised:  # noqa: BLE001 - raising is one way to report a failure
                error = raised
        returned_ns = time.monotonic_ns()
        self.history.record("return", threading.current_thread().name, returned_ns)
        self.recorder.exempt.add(threading.get_ident())
        at_return = self._held()
        success = None if watchdog.expired else self._claims_success(result, error)
        nowait = bool(plan.flags & KillFlags.NOWAIT and plan.routine.takes("flags"))
        alive = self.alive_at_cut if watchdog.expired else self._still_alive()
        leftovers = None
        if success and not nowait and not alive:
            leftovers = self._leftovers()
        self._let_go()
        stop_all(self.contenders, time.monotonic() + _JOIN)
        ended_by_trial = alive and not self._ends(called_ns + int(budget * 1e9), alive=alive)
        self._quiesce()
        if ended_by_trial:
            self.vm.kill()
        journal = tuple(self.vm.journal.entries())
        for entry in journal:
            self.history.record(entry.event, "fake", entry.at_ns, **entry.fields)
        exit_ = self.vm.exit
        stops = [entry.at_ns for entry in journal if entry.event == "signal"]
        return Evidence(
            knobs=self.vm.knobs,
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
            routine_actor=threading.current_thread().name,
            first_request_ns=stops[0] if stops else None,
            signals=tuple(self.recorder.sent),
            journal=journal,
            exit=exit_,
            exit_ns=None if exit_ is None or ended_by_trial else int(exit_.at * 1e9),
            alive_at_return=alive,
            ended_by_trial=ended_by_trial,
            audit=self.vm.disk.audit(),
            # decoded once: there are tens of thousands
            holds=tuple(self.history.holds),
            waits=tuple(self.history.waits),
            lock_state=self._lock_state(at_entry, at_return),
            contenders=tuple(self.contenders),
            leftovers=leftovers,
        )

    def _claims_success(self, result: object, error: Exception | None) -> bool:
        if error is not None:
            return False
        if self.plan.succeeded is not None:
            return bool(self.plan.succeeded(result))
        return result is not False and getattr(result, "ok", True) is not False

    def _promise(self, budget: float, *, nowait: bool) -> Promise:
        plan = self.plan
        force = plan.force
        if force is None and plan.routine.takes("flags"):
            force = bool(plan.flags & KillFlags.FORCE)
        survive = plan.survive
        if survive is None and self.vm.knobs.ends_by_itself:
            survive = self.vm.knobs.flush_total
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

    # -- after the call

    def _still_alive(self) -> bool:
        try:
            self.vm.wait(TOLERANCE)
        except TimeoutError:
            return True
        return False

    def _ends(self, deadline_ns: int, *, alive: bool) -> bool:
        """Give a VM that was asked to stop and is still flushing the time that it needs."""
        asked = any(entry.event == "signal" for entry in self.vm.journal.entries())
        left = max((deadline_ns - time.monotonic_ns()) / 1e9, longest_end(self.vm.knobs))
        if not alive or not (asked and self.vm.knobs.ends_by_itself):
            killed = any(s.signum == SIGKILL and s.reached_vm for s in self.recorder.sent)
            if not killed:
                return not alive
            left = _JOIN
        try:
            self.vm.wait(left)
        except TimeoutError:
            return False
        return True

    def _leftovers(self) -> Leftovers:
        vm = self.vm
        wrapper = {vm.started_pid} - {vm.pid}
        holds: list[tuple[str, Callable[[], bool]]] = [("the disk is locked", vm.disk.locked)]
        if vm.knobs.topology == "daemon" and self.plan.routine.kind != "driver":
            # a driver routine leaves the pid file to its caller, as libvirt's does
            holds.append(("the pid file is there", (vm.dir / "pid").exists))

        def orphans() -> Iterator[Orphan]:
            for pid in vm.processes():
                yield Orphan(pid=pid, role="wrapper" if pid in wrapper else "helper")

        return look(started=1 + len(wrapper) + vm.knobs.helpers, processes=orphans, holds=holds)

    def _held(self) -> tuple[str, ...]:
        if self.tracer is None:
            return ()
        return tuple(lock.name for lock in self.tracer.held_by(threading.get_ident()))

    def _let_go(self) -> None:
        """Release what this thread holds, so that the contenders go on."""
        if self.tracer is not None:
            for lock in reversed(self.tracer.held_by(threading.get_ident())):
                lock.release()

    def _lock_state(
        self, at_entry: tuple[str, ...], at_return: tuple[str, ...]
    ) -> LockState | None:
        if self.tracer is None:
            return None
        # a lock that was handed over between threads has no owner any more, and is nobody's loss
        handed_over = {lock.name for lock in self.tracer.locks if lock.is_semaphore}
        return LockState(
            traced=len(self.tracer.locks),
            acquisitions=self.tracer.acquisitions,
            at_entry=tuple(name for name in at_entry if name not in handed_over),
            at_return=tuple(name for name in at_return if name not in handed_over),
            deadlocks=tuple(self.tracer.deadlocks),
            cycles=tuple(self.tracer.order_cycles()),
        )

    # -- the end, whatever happened

    def _free(self) -> None:
        """The watchdog's: end everything that the call may wait for."""
        self.recorder.exempt.add(threading.get_ident())
        self.alive_at_cut = self.vm.alive
        self.vm.kill()

    def _quiesce(self) -> None:
        """No thread of ours goes on; locks that a lost thread holds are opened for the others."""
        self._let_go()
        stuck = stop_all(self.contenders, time.monotonic() + (0 if self.tracer is None else _JOIN))
        if self.tracer is None:
            return
        self.tracer.stop()
        deadline = time.monotonic() + _JOIN
        while stuck and time.monotonic() < deadline:
            for lock in self.tracer.locks:
                if lock.locked():
                    lock.release()
            stuck = stop_all(stuck, time.monotonic() + 0.05)

    def _report(self, evidence: Evidence) -> Report:
        verdicts, not_judged = judge(evidence)
        return Report(
            verdicts=verdicts,
            not_judged=not_judged,
            disk=evidence.audit,
            calls=(evidence.call,),
            history=self.history,
            longest_stall=longest(evidence, during=True) if self.contenders else None,
            sigkill_sent=evidence.killed_ns is not None,
        )
