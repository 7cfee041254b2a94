"""The model at work in a trial: its driver with traced locks, what contenders do with it, and acts.

A contender repeats something that a manager does all the time; an act is done once, at a point of
the trial that was asked for (`choreography`).
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from pytest_gracekill.child.handle import spawn
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.choreography import Choreography
from pytest_gracekill.routine.callers import monitor_eof
from pytest_gracekill.routine.flags import KillFlags
from pytest_gracekill.routine.model import Driver
from pytest_gracekill.settings import KINDS
from pytest_gracekill.verdicts.evidence import IdentitySeen
from pytest_gracekill.verdicts.requests import SIGKILL
from pytest_gracekill.witness.contenders import Contender
from pytest_gracekill.witness.identity import IdentityWitness
from pytest_gracekill.witness.signals import OTHER_RUN

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from pytest_gracekill.child.handle import FakeQemu
    from pytest_gracekill.choreography import Point
    from pytest_gracekill.routine.incarnation import Incarnation
    from pytest_gracekill.routine.model import HasPid
    from pytest_gracekill.trial import Plan
    from pytest_gracekill.witness.history import History
    from pytest_gracekill.witness.locks import LockTracer, TracedLock

#: The name of the domain whose VM is killed, and those that are only looked up.
TARGET = "vm"
OTHERS = ("other-1", "other-2", "other-3")

#: What can be done at a point of a trial, by name.
ACTS = {
    "eof": "the monitor's end-of-file handler cleans up, unless the guard flag is set",
    "destroy": "another thread destroys the same domain, by force",
    "restart": "the domain is cleaned up if nobody has, and started again as another VM",
    "undefine": "the domain is undefined; the routine's caller has no reference of its own then",
}


def look_up(driver: Driver, name: str, *, required: bool) -> None:
    """Look up a domain; LookupError when one that is ``required`` is not defined any more."""
    with driver.look_up(name) as domain:
        if domain is None and required:
            raise LookupError(f"domain {name!r} is not defined any more")


def define_and_undefine(driver: Driver, name: str) -> None:
    """Have a domain for a moment."""
    driver.define(name)
    driver.undefine(name)


def start_again(driver: Driver, run: Incarnation, make: Callable[[], HasPid | None]) -> None:
    """Clean up after the run, if nobody has, and start the domain as another VM."""
    with driver.lock:
        # what is on the list has the list's reference; it may have been undefined
        domain = driver.find(TARGET)
        if domain is not None:
            with domain.lock:
                domain.clean_up(run)
                domain.being_destroyed = False
        driver.define(TARGET, make())


class Driving:
    """The model of one trial. ``run`` is the incarnation of the VM that is to be killed."""

    def __init__(self, plan: Plan, vm: FakeQemu, tracer: LockTracer, history: History) -> None:
        self._plan = plan
        self._vm = vm
        self._tracer = tracer
        self._history = history
        self._witness = IdentityWitness(history)
        self._next: FakeQemu | None = None
        made: dict[str, TracedLock] = {}

        def make_lock(name: str) -> TracedLock:
            # a name that is defined again and again is one lock: thousands tell nobody more
            if name not in made:
                made[name] = tracer.lock(name, class_=name.split(maxsplit=1)[0])
            return made[name]

        self.driver = Driver(lookup=plan.lookup, make_lock=make_lock, notices=self._witness)
        self.domain = self.driver.define(TARGET, vm)
        run = self.domain.incarnation
        assert run is not None
        self.run = run
        for name in OTHERS:
            self.driver.define(name)

    def prepare(self, stack: ExitStack) -> None:
        """Start what the acts need, before the routine is called."""
        if "restart" in self._plan.at.values():
            knobs = Knobs.from_values({"topology": "reaped", "flush_time": 0.0, "blocks": 1})
            self._next = spawn(knobs, self._plan.directory / "started-meanwhile")
            stack.callback(self._next.close)

    @property
    def caller_has_reference(self) -> bool:
        """Whether the routine's caller holds a reference of its own, as it should."""
        return "undefine" not in self._plan.at.values()

    def contenders(self) -> list[Contender]:
        """Threads that do what a manager does, named by their kind."""
        numbers = {kind: count(1) for kind in KINDS}
        found = []
        for kind in self._plan.contenders:
            name = f"{kind}-{next(numbers[kind])}"
            found.append(Contender(name, self._operation(kind, name), self._history))
        return found

    def choreography(self, routine: int) -> Choreography | None:
        """The acts at their points, for the routine that the thread ``routine`` calls."""
        acts: dict[Point, tuple[str, Callable[[], object]]] = {}
        for point, act in self._plan.at.items():
            if callable(act):
                name = getattr(act, "__name__", "act")
                acts[point] = name, lambda act=act: act(self.driver, self.domain)  # type: ignore[misc] # bound now
            else:
                acts[point] = f"{act}-at", self._act(str(act))
        if not acts:
            return None
        return Choreography(
            acts,
            routine=routine,
            tracer=self._tracer,
            history=self._history,
            vm_alive=lambda: self._vm.alive,
        )

    def whose(self, pid: int) -> str | None:
        """What a process is: the VM that was started meanwhile, or none of ours (None)."""
        if self._next is not None and pid == self._next.pid and self._next.alive:
            return f"{OTHER_RUN} (pid {pid})"
        return None

    def seen(self) -> IdentitySeen:
        """What became of the domains."""
        return IdentitySeen(
            domain=TARGET,
            incarnation=self.run.id,
            uses=tuple(self._witness.uses),
            clean_ups=tuple(self._witness.clean_ups),
            other_hit=self._next_hit(),
        )

    def _next_hit(self) -> tuple[int, int] | None:
        """When which signal has come to the VM that was started meanwhile, by its own word."""
        vm = self._next
        if vm is None:
            return None
        for entry in vm.journal.entries():
            if entry.event == "signal":
                return entry.at_ns, entry.number("signal")
        if not vm.alive and vm.exit is not None:
            return int(vm.exit.at * 1e9), vm.exit.signal or SIGKILL
        return None

    def _act(self, name: str) -> Callable[[], object]:
        return {
            "eof": self._eof,
            "destroy": lambda: self.driver.destroy(TARGET, KillFlags.FORCE),
            "restart": self._restart,
            "undefine": lambda: self.driver.undefine(TARGET),
        }[name]

    def _eof(self) -> None:
        monitor_eof(self.driver, TARGET, self.run)

    def _restart(self) -> None:
        start_again(self.driver, self.run, lambda: self._next)

    def _operation(self, kind: str, name: str) -> Callable[[], object]:
        """What a contender of this kind does again and again."""
        driver, vm = self.driver, self._vm
        handled = False

        def eof() -> None:
            nonlocal handled
            if not handled and not vm.alive:
                handled = True
                self._eof()

        return {
            "other": lambda: look_up(driver, OTHERS[0], required=self.caller_has_reference),
            "same": lambda: look_up(driver, TARGET, required=self.caller_has_reference),
            "list": driver.list_all,
            "define": lambda: define_and_undefine(driver, f"new-{name}"),
            "eof": eof,
        }[kind]
