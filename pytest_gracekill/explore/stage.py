"""What there is in one schedule of a kill routine: VM, model, callers and contenders at work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from pytest_gracekill.driving import (
    ACTS,
    OTHERS,
    TARGET,
    define_and_undefine,
    look_up,
    start_again,
)
from pytest_gracekill.errors import UsageError
from pytest_gracekill.explore.locks import Lock
from pytest_gracekill.explore.model import ExploredDomain, Notices
from pytest_gracekill.explore.objects import SimulatedPopen
from pytest_gracekill.explore.processes import await_end
from pytest_gracekill.explore.tasks import Abandoned, Task, current
from pytest_gracekill.explore.vm import SimulatedVm
from pytest_gracekill.routine.adapt import name_of
from pytest_gracekill.routine.callers import monitor_eof
from pytest_gracekill.routine.flags import KillFlags
from pytest_gracekill.routine.model import Driver, UnknownDomainError
from pytest_gracekill.routine.offered import offer
from pytest_gracekill.routine.policy import KillPolicy
from pytest_gracekill.witness.signals import OTHER_RUN

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gracekill.explore.run import Run
    from pytest_gracekill.routine.domain import Domain
    from pytest_gracekill.routine.incarnation import Incarnation
    from pytest_gracekill.routine.owned_lock import Lockable
    from pytest_gracekill.trial import Plan

ROUTINE = "gracekill:routine"

#: What a contender waits for that may never come.
AWAITS_EOF = "waits for the end of file of"
AWAITS_CALL = "waits for the call"


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
    stuck: None = None

    @property
    def actor(self) -> str:
        return f"gracekill:{self.name}"

    @property
    def operations(self) -> int:
        return len(self.spans)


@dataclass(slots=True)
class Called:
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


class _Offered:
    """The VM as a routine is offered one."""

    def __init__(self, vm: SimulatedVm) -> None:
        self.started_pid = vm.pid
        self._vm = vm

    @property
    def popen(self) -> SimulatedPopen:
        return SimulatedPopen(self._vm)


class Stage:
    """One schedule: everything is made, and added to the run as tasks.

    :ivar victim: the run of the domain that is to be killed.
    :ivar actors: contenders that do what an act of a trial does.
    """

    def __init__(self, run: Run, plan: Plan, kinds: tuple[str, ...]) -> None:
        self.run = run
        self.notices = Notices(run)
        self.vm = SimulatedVm(run, plan.knobs, "the VM")
        run.target = self.vm
        self.driver: Driver | None = None
        self.domain: Domain | None = None
        self.victim: Incarnation | None = None
        self.calls: list[Called] = []
        self.contenders: list[Explored] = []
        self.actors: set[str] = set()
        self._plan = plan
        self._kinds = kinds

    def people(self) -> None:
        """Have the model, the callers and the contenders; nobody goes on yet."""
        plan, run = self._plan, self.run
        if plan.routine.kind == "driver":
            self._define()
        for number in range(plan.callers):
            name = ROUTINE if number == 0 else f"gracekill:caller-{number + 1}"
            called = Called(actor=name)
            self.calls.append(called)
            called.task = run.add(name, lambda called=called: self._call(called))  # type: ignore[misc] # bound now
        counts: dict[str, int] = {}
        for kind in self._kinds:
            counts[kind] = counts.get(kind, 0) + 1
            self._contend(f"{kind}-{counts[kind]}", self._operation(kind), kind)
        for work in plan.contend:
            self._contend(name_of(work), work, "")

    @property
    def caller_has_reference(self) -> bool:
        """Whether the routine's caller holds a reference of its own, as it should."""
        return "undefine" not in self._kinds

    def _define(self) -> None:
        run, made = self.run, dict[str, Lock]()

        def make_lock(name: str) -> Lockable:
            if name not in made:
                made[name] = Lock(name, run)
            return cast("Lockable", made[name])

        self.driver = Driver(
            lookup=self._plan.lookup,
            make_lock=make_lock,
            notices=self.notices,
            make_domain=cast("Callable[..., Domain]", ExploredDomain),
        )
        self.domain = self.driver.define(TARGET, self.vm)
        self.victim = self.domain.incarnation
        if set(self._kinds) & {"other", "list"}:
            self.driver.define(OTHERS[0])

    def _contend(self, name: str, operation: Callable[[], object], kind: str) -> None:
        contender = Explored(name)
        self.contenders.append(contender)
        run = self.run
        if kind in ACTS and kind != "eof":
            self.actors.add(contender.actor)

        def work() -> None:
            contender.began = run.now
            operation()
            contender.spans.append((contender.began, run.now))

        contender.task = run.add(contender.actor, work)

    def _operation(self, kind: str) -> Callable[[], object]:
        driver, run = self.driver, self.run
        if driver is None:
            raise UsageError(f"contenders={kind!r}: the routine takes no driver")

        def eof() -> None:
            task = current()
            assert task is not None
            assert self.victim is not None
            await_end(task, [self.vm], None, AWAITS_EOF)
            monitor_eof(driver, TARGET, self.victim)

        def once_called(act: Callable[[], object]) -> Callable[[], object]:
            def work() -> None:
                task = current()
                assert task is not None
                run.perform(task, AWAITS_CALL, "", self.vm.mask, self._is_called, reads=True)
                act()

            return work

        def destroy() -> None:
            try:
                driver.destroy(TARGET, KillFlags.FORCE)
            except UnknownDomainError:
                return  # it has been undefined

        return {
            "other": lambda: look_up(driver, OTHERS[0], required=self.caller_has_reference),
            "same": lambda: look_up(driver, TARGET, required=self.caller_has_reference),
            "list": driver.list_all,
            "define": lambda: define_and_undefine(driver, "new"),
            "eof": eof,
            "destroy": once_called(destroy),
            "restart": once_called(self._restart),
            "undefine": once_called(lambda: driver.undefine(TARGET)),
        }[kind]

    def _restart(self) -> None:
        driver = self.driver
        assert driver is not None
        assert self.victim is not None
        start_again(driver, self.victim, self._another_vm)

    def _another_vm(self) -> SimulatedVm:
        pid = max(self.run.vms) + 1
        return SimulatedVm(self.run, self.vm.knobs, f"{OTHER_RUN} (pid {pid})")

    def _is_called(self) -> bool:
        return self.calls[0].called_ns is not None

    def _call(self, called: Called) -> object:
        plan, run = self._plan, self.run
        task = called.task
        assert task is not None
        driver, domain = self.driver, self.domain
        if driver is not None and domain is not None:
            if self.caller_has_reference:
                domain.ref()
            driver.lock.acquire()
            domain.lock.acquire()
        called.at_entry = tuple(lock.name for lock in task.held)
        offered = offer(
            plan.routine,
            flags=plan.flags,
            policy=plan.policy or KillPolicy(),
            vm=_Offered(self.vm),
            model=(driver, domain),
        )
        called.called_ns = run.now
        task.touch(self.vm.mask)  # who waits for the call may go on
        try:
            called.result = plan.routine.call(offered, plan.given)
        except Abandoned:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it raises is evidence
            called.error = error
        finally:
            if not run.abandoning:
                called.returned_ns = run.now
                called.at_return = tuple(lock.name for lock in task.held)
                called.alive = not self.vm.ended()
                called.alive_seen = task.alive_seen.get(self.vm.pid, called.alive)
        for lock in reversed(list(task.held)):
            lock.release()
        return None
