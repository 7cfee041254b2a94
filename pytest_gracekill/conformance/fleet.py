"""Several VMs that are stopped at the same time, each by a call of its own.

Of a routine that takes a driver they are the domains of one driver, so that a lock which is held
over a wait shows as the sum of the waits. What is seen is how long it took until all calls had
returned, and what became of each VM.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pytest_gracekill import clock
from pytest_gracekill.aftermath import vm_ends
from pytest_gracekill.alone import alone
from pytest_gracekill.child.handle import FakeQemu, spawn
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.child.lineage import Lineage
from pytest_gracekill.child.unstarted import Unstarted
from pytest_gracekill.legible import error_text
from pytest_gracekill.passing import passes_through
from pytest_gracekill.routine.model import Driver
from pytest_gracekill.routine.offered import offer
from pytest_gracekill.routine.session import Session
from pytest_gracekill.trial import default_topology
from pytest_gracekill.verdicts.evidence import TOLERANCE, too_busy
from pytest_gracekill.verdicts.requests import STOP_SIGNALS, requests_of
from pytest_gracekill.witness.cut_off import CutOff
from pytest_gracekill.witness.history import History
from pytest_gracekill.witness.recipients import Known
from pytest_gracekill.witness.signals import SignalRecorder
from pytest_gracekill.witness.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_gracekill.routine.adapt import Adapted
    from pytest_gracekill.routine.flags import KillFlags
    from pytest_gracekill.routine.model import Domain
    from pytest_gracekill.routine.policy import KillPolicy
    from pytest_gracekill.witness.signals import SentSignal

#: Seconds that a call has to end after its VM was taken from it.
_AFTER_CUT = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of one VM, and what its call reported (an exception as its text).

    When it was asked to stop, and when it ended, are CLOCK_MONOTONIC nanoseconds.
    """

    asked_ns: int | None
    ended_ns: int | None
    alive: bool
    lost: int
    error: str | None

    @property
    def given(self) -> float | None:
        """Seconds from the request to stop to the end; None without both."""
        if self.asked_ns is None or self.ended_ns is None:
            return None
        return (self.ended_ns - self.asked_ns) / 1e9

    def __str__(self) -> str:
        state = "alive" if self.alive else f"dead, {self.lost} blocks lost"
        return state if self.error is None else f"{state}, {self.error}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Seconds from the first call to the last return, and each VM's fate; ``hung``: cut off.

    ``needed``: seconds that each VM's flush takes.
    """

    elapsed: float
    needed: float
    hung: bool
    fates: tuple[Fate, ...]

    @property
    def too_busy(self) -> str | None:
        """Why all that was lost is the machine's doing; None where nothing was, or some is not."""
        reasons = [too_busy(self.needed, fate.given) for fate in self.fates if fate.lost]
        return reasons[0] if reasons and all(reasons) else None

    @property
    def at_once(self) -> int:
        """How many VMs were on their way out at the same moment, at the most."""
        spans = [(fate.asked_ns, fate.ended_ns) for fate in self.fates]
        return max(
            (
                sum(
                    asked is not None and asked <= moment and (ended is None or moment < ended)
                    for asked, ended in spans
                )
                for moment, _ in spans
                if moment is not None
            ),
            default=0,
        )

    def __str__(self) -> str:
        return f"{len(self.fates)} VMs in {self.elapsed:.3f} s"


class _Vessel:
    """One VM with the session that stops it, and the domain that it is in a driver."""

    def __init__(self, session: Session, domain: Domain | None) -> None:
        self.session = session
        self.domain = domain
        self.error: str | None = None


class Fleet:
    """VMs that run, and are stopped together; a context that leaves nothing of them."""

    def __init__(
        self,
        adapted: Adapted,
        folders: list[Path],
        *,
        flags: KillFlags,
        policy: KillPolicy,
        flush_time: float,
    ) -> None:
        self._adapted = adapted
        self._folders = folders
        self._flags = flags
        self._policy = policy
        self._knobs = Knobs.from_values(
            {"topology": default_topology(adapted), "flush_time": flush_time}
        )
        self._lineage = Lineage()
        self._driver = Driver()
        self._runner = asyncio.Runner()
        self._stack = ExitStack()
        self._vms: list[FakeQemu | Unstarted] = []
        self._vessels: list[_Vessel] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._runner.close)
            for number, folder in enumerate(self._folders, start=1):
                self._vessels.append(self._launch(number, folder, stack))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def stop(self, budget: float) -> Outcome:
        """Stop all at once; whoever has not returned after ``budget`` seconds is cut off."""
        what = f"the stop of {len(self._vms)} VMs by {self._adapted.name}"
        with alone(what), SignalRecorder(self._whose, History(), self._folders[0]) as recorder:
            started = clock.monotonic()
            if self._vessels[0].session.asynchronous:
                hung = self._in_loop(budget)
            else:
                hung = self._in_threads(started + budget)
            elapsed = clock.monotonic() - started
        fates = tuple(self._fates(recorder.sent))
        return Outcome(elapsed=elapsed, needed=self._knobs.flush_total, hung=hung, fates=fates)

    def _launch(self, number: int, folder: Path, stack: ExitStack) -> _Vessel:
        given = frozenset(("flags", "policy"))
        domain = None
        vm: FakeQemu | None = None
        unstarted: Unstarted | None = None
        if self._adapted.starts_the_vm:
            unstarted = Unstarted(self._knobs, folder)
            self._vms.append(unstarted)
        else:
            vm = spawn(self._knobs, folder)
            self._vms.append(vm)
        stack.callback(self._vms[-1].close)
        if self._adapted.kind == "driver":
            domain = self._driver.define(f"vm-{number}", vm)
        session = Session(self._adapted, unstarted, given, self._runner)
        stack.callback(session.end)
        model = self._driver, domain
        session.begin(
            offer(
                self._adapted,
                flags=self._flags,
                policy=self._policy,
                vm=vm,
                unstarted=unstarted,
                model=model,
            )
        )
        return _Vessel(session, domain)

    def _whose(self, pid: int) -> Known | None:
        if any(vm.pid == pid for vm in self._vms):
            return Known("vm", f"the VM {pid}")
        # a manager may signal whatever it has started: a shell around the VM, its own helpers
        own = self._adapted.starts_the_vm and self._lineage.came_since(pid)
        return Known("routine's process", f"the manager's process {pid}") if own else None

    def _in_threads(self, deadline: float) -> bool:
        threads = [
            threading.Thread(
                target=self._call, args=(vessel,), name=f"gracekill:fleet-{number}", daemon=True
            )
            for number, vessel in enumerate(self._vessels, start=1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(deadline - clock.monotonic(), 0.0))
        hung = any(thread.is_alive() for thread in threads)
        if hung:
            self._free()
            for thread in threads:
                thread.join(_AFTER_CUT)
        return hung

    def _call(self, vessel: _Vessel) -> None:
        domain = vessel.domain
        if domain is None:
            self._note(vessel)
            return
        domain.ref()
        with self._driver.lock:
            domain.lock.acquire()
            try:
                self._note(vessel)
            finally:
                if domain.lock.held():
                    domain.lock.release()
        domain.unref()

    @staticmethod
    def _note(vessel: _Vessel) -> None:
        try:
            vessel.session.call()
        except BaseException as error:
            # raising is one way to report a failure
            vessel.error = error_text(error)
            if isinstance(error, CutOff) or passes_through(error):
                raise

    def _in_loop(self, budget: float) -> bool:
        async def call(vessel: _Vessel) -> None:
            try:
                await vessel.session.call_async()
            except BaseException as error:
                vessel.error = error_text(error)
                if isinstance(error, CutOff) or passes_through(error):
                    raise

        async def all_at_once() -> None:
            await asyncio.gather(*(call(vessel) for vessel in self._vessels))

        watchdog = Watchdog(budget, self._free)
        with watchdog:
            self._runner.run(all_at_once())
        return watchdog.expired

    def _free(self) -> None:
        for vm in self._vms:
            running = vm if isinstance(vm, FakeQemu) else vm.vm
            if running is not None:
                running.kill()

    def _fates(self, signals: Sequence[SentSignal]) -> list[Fate]:
        fates = []
        for vm, vessel in zip(self._vms, self._vessels, strict=True):
            running = vm if isinstance(vm, FakeQemu) else vm.vm
            assert running is not None
            ended = running.exit
            # a VM on a busy machine may take note of it late
            sent = [
                s.at_ns
                for s in signals
                if s.signum in STOP_SIGNALS and s.reached_vm and s.pid == running.pid
            ]
            asked = sent + requests_of(running.journal.entries())
            fates.append(
                Fate(
                    asked_ns=min(asked, default=None),
                    ended_ns=None if ended is None else int(ended.at * 1e9),
                    alive=not vm_ends(running, TOLERANCE),
                    lost=len(running.disk.audit().lost),
                    error=vessel.error,
                )
            )
        return fates
