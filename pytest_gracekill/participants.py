"""Who takes part in a trial: the VM, the manager's model with its traced locks, the contenders.

Made before the routine is called, cleared away after it, whatever happened.
"""

from __future__ import annotations

import os
import select
import subprocess
import threading
from contextlib import ExitStack
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pytest_gracekill import clock
from pytest_gracekill.child import mark as marks
from pytest_gracekill.child.handle import spawn
from pytest_gracekill.child.lineage import Lineage
from pytest_gracekill.child.reception import reception, why_unheard
from pytest_gracekill.child.unstarted import Unstarted
from pytest_gracekill.data.disturbances import Disturbance, StartedProcess, Suspects
from pytest_gracekill.data.requests import PendingSignal, Start
from pytest_gracekill.driving import Driving
from pytest_gracekill.routine.adapt import form_of, name_of
from pytest_gracekill.verdicts.evidence import SHORTEST_WAIT, TOLERANCE, ActsSeen, LockState
from pytest_gracekill.verdicts.requests import STOP_SIGNALS, requests_of
from pytest_gracekill.witness.adopted import adopted
from pytest_gracekill.witness.contenders import Contender, allowance, stop_all
from pytest_gracekill.witness.event_loop import PULSE, LoopContender, pulse
from pytest_gracekill.witness.history import History
from pytest_gracekill.witness.leftovers import Held, Leftovers, Orphan, look
from pytest_gracekill.witness.lock_table import printed_at_timeout
from pytest_gracekill.witness.locks import LockTracer, TracedLock
from pytest_gracekill.witness.oom import OomKills
from pytest_gracekill.witness.recipients import Known, pid_of
from pytest_gracekill.witness.signals import SignalRecorder
from pytest_gracekill.witness.standstill import StandstillWitness
from pytest_gracekill.witness.starts import StartWitness, helpers_of_multiprocessing
from pytest_gracekill.witness.untraced import UntracedWatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence

    from pytest_gracekill.child.disk import Audit
    from pytest_gracekill.child.handle import FakeQemu
    from pytest_gracekill.child.journal import Entry
    from pytest_gracekill.choreography import Choreography
    from pytest_gracekill.data.requests import Unheard
    from pytest_gracekill.trial import Plan
    from pytest_gracekill.witness.history import Hold
    from pytest_gracekill.witness.lock_order import OrderCycle

#: Seconds for what should take milliseconds on a machine that is not drowned.
WARM_UP = 10.0
JOIN = 2.0

#: Seconds for which the trial waits at most for a contender to come back after the call.
_LONGEST_ALLOWANCE = 30.0
#: Seconds that are left for the report before pytest-timeout ends the test.
_MARGIN = 2.0

#: What the names of the further callers begin with.
CALLER = "gracekill:caller-"


class Participants:
    """Everything that takes part; entered into ``stack``, which clears it away.

    ``driving`` is None for a routine that takes no driver, ``tracer`` where there are no locks.
    """

    def __init__(self, plan: Plan, stack: ExitStack) -> None:
        self.history = History()
        self.standstills = stack.enter_context(StandstillWitness())
        self.tracer: LockTracer | None = None
        self.untraced: UntracedWatch | None = None
        self.driving: Driving | None = None
        self.contenders: list[Contender] = []
        self.loop_contenders: list[LoopContender] = []
        self.unstarted: Unstarted | None = None
        self.pending: list[PendingSignal] = []
        #: When the VM was seen to be stopped (SIGSTOP), in nanoseconds.
        self.stopped: list[int] = []
        self._threads = frozenset(threading.enumerate())
        #: Whether the test itself has ended a VM that it hands in dead.
        self.death_expected = plan.vm is not None and plan.vm.end_seen
        self._choreography: Choreography | None = None
        self._plan = plan
        self._kind = plan.routine.kind
        self._vm: FakeQemu | None = plan.vm
        self._lineage = Lineage()
        self._oom = OomKills()
        self._journal_before = b""
        self.starts = StartWitness(lambda: threading.get_ident() in self.recorder.exempt)
        if plan.routine.starts_the_vm:
            self.unstarted = Unstarted(plan.knobs, plan.directory)
            stack.callback(self.unstarted.close)
        elif plan.vm is None:
            own_child = self._kind in ("popen", "process")
            # a pipe as idioms with communicate() expect it; the fake writes nothing to it
            stdout = subprocess.PIPE if own_child else subprocess.DEVNULL
            self._vm = spawn(plan.knobs, plan.directory, stdout=stdout)
            stack.callback(self._vm.close)
        folder = plan.directory if plan.vm is None else plan.vm.dir
        self.recorder = stack.enter_context(SignalRecorder(self._whose, self.history, folder))
        stack.enter_context(self.starts.watching())
        if self.unstarted is not None:
            self.standstills.ticks.append(self.starts.tick)
        if self._kind == "driver" or plan.locks:
            self.tracer = LockTracer(self.history)
            self.untraced = UntracedWatch(self.tracer)
            self.standstills.looks.append(self.untraced.look)
            stack.enter_context(printed_at_timeout(self.tracer))
        self.recorder.held = self.held
        self.recorder.why_unheard = self._why_unheard
        stack.callback(self.quiesce, patient=False)

    def enter(self, stack: ExitStack) -> None:
        """Let everybody take part, now that the VM runs or its manager is about to start it."""
        plan = self._plan
        if self.tracer is not None:
            stack.enter_context(adopted(plan.locks, self.tracer))
        if self._kind == "driver":
            assert self.tracer is not None
            self.driving = Driving(plan, self.vm, self.tracer, self.history)
            self.driving.prepare(stack)
            self.contenders += self.driving.contenders()
        for name, work in _named(plan.contend):
            if form_of(work) == "coroutine":
                asynchronous = cast("Callable[[], Awaitable[object]]", work)
                self.loop_contenders.append(LoopContender(name, asynchronous, self.history))
            else:
                self.contenders.append(
                    # what it has not let go of is nobody's any more, but stays held as it would
                    Contender(
                        name,
                        work,
                        self.history,
                        by_latency=True,
                        at_end=self.let_go,
                        at_raise=None if self.tracer is None else self.tracer.finish,
                        tracer=self.tracer,
                    )
                )
        self._start_contenders()

    def tasks(self) -> list[LoopContender]:
        """Who works in the event loop of an async routine: the user's, and the loop's own pulse."""
        if not self.loop_contenders or self.loop_contenders[-1].name != PULSE:
            self.loop_contenders.append(pulse(self.history))
        return self.loop_contenders

    @property
    def vm(self) -> FakeQemu:
        """The VM; asked for only when it has been started."""
        vm = self._vm if self.unstarted is None else self.unstarted.vm
        assert vm is not None
        return vm

    @property
    def started_vm(self) -> FakeQemu | None:
        """The VM, if it has been started."""
        return self._vm if self.unstarted is None else self.unstarted.vm

    def vm_alive(self) -> bool:
        """Whether the VM runs now; one that nobody has started does not."""
        vm = self.started_vm
        return vm is not None and vm.alive

    def note_end(self) -> None:
        """Have an end of the VM that has come by now on record, as one before the call.

        And what its journal says by now: nobody may change that later.
        """
        vm = self.started_vm
        if vm is None:
            return
        self._journal_before = _content(vm.journal.path)
        if not vm.alive:
            vm.wait(TOLERANCE)

    def vm_ended_within_tolerance(self) -> bool:
        """Whether the VM has ended, or does so in the next milliseconds.

        How it ended is not asked for: a reaper may take its time to tell, and others wait here.
        """
        vm = self.started_vm
        if vm is None:
            return True
        ended = select.poll()
        ended.register(vm.pidfd, select.POLLIN)
        return bool(ended.poll(TOLERANCE * 1000))

    def end_as_seen(self) -> tuple[bool, bool]:
        """Whether the VM has ended by now, and whether the routine's process has reaped it."""
        vm = self.started_vm
        if vm is None or vm.alive:
            return False, False
        if self.unstarted is not None:
            own = self.unstarted.parent == os.getpid()
        else:
            own = vm.popen is not None and vm.popen.pid == vm.pid
        return True, own and marks.state(vm.pid) != "Z"

    @property
    def requests_sent(self) -> bool:
        """Whether a stop signal that was seen being sent has reached the VM."""
        return any(s.signum in STOP_SIGNALS and s.reached_vm for s in self.recorder.sent)

    def _why_unheard(self, signum: int) -> Unheard | None:
        vm = self.started_vm
        if vm is None or signum not in STOP_SIGNALS:
            return None
        return why_unheard(vm, signum)

    def look_for_pending(self) -> None:
        """Note a stop signal that waits at the VM: one that a command sent is seen only so."""
        vm = self.started_vm
        seen = None if vm is None else reception(vm.pid)
        if vm is None or seen is None:
            return
        if seen.stopped:
            self.stopped.append(clock.monotonic_ns())
        for signum in sorted(seen.pending & {*STOP_SIGNALS} - {s.signum for s in self.pending}):
            unheard = why_unheard(vm, signum)
            if unheard is not None:
                now = clock.monotonic_ns()
                self.pending.append(PendingSignal(at_ns=now, signum=signum, unheard=unheard))

    def starters_live(self, wardens: Collection[int]) -> bool:
        """Whether somebody who could start the VM again is still there.

        A process that the adapter has started, other than the VM; the process that has started the
        VM; a thread that the adapter has started.

        :param wardens: processes of ours, below which the adapter's commands run.
        """
        vm = self.started_vm
        own = {*wardens} if vm is None else {*wardens, vm.pid}
        if any(
            thread not in self._threads for thread in threading.enumerate() if _is_users(thread)
        ):
            return True
        parent = None if self.unstarted is None else self.unstarted.parent
        if parent and parent not in {os.getpid(), 1, *own} and marks.state(parent) not in ("", "Z"):
            return True
        return any(
            pid not in own and not (vm is not None and vm.attends(pid))
            for pid in self._lineage.living()
        )

    def suspects(self, wardens: Collection[int]) -> Suspects:
        """Who could have sent a signal that nobody saw being sent.

        :param wardens: as of `starters_live`.
        """
        program, started_ns = None, None
        managers: list[StartedProcess] = []
        if self.unstarted is not None and self.unstarted.starts:
            first = self.unstarted.starts[0]
            program = str(self.unstarted.prepared.program)
            if first.starter in {os.getpid(), *helpers_of_multiprocessing()}:
                started_ns = first.at_ns
            else:
                managers.append(StartedProcess(at_ns=first.at_ns, text=first.by))
        elif self.vm.started_by is not None:
            managers.append(StartedProcess(at_ns=None, text=self.vm.started_by))
        processes = (*managers, *self.starts.others(program, started_ns, self._not_the_routines))
        return Suspects(
            owner=os.getpid(),
            processes=processes or self._living(wardens),
            thread=self.starts.thread_of_vm(program, started_ns),
            oom_kills=self._oom.since(),
        )

    @property
    def _not_the_routines(self) -> frozenset[str]:
        """The names of the threads that are no part of the routine, nor of its adapter."""
        return self.acts.actors | {contender.actor for contender in self.contenders}

    def _living(self, wardens: Collection[int]) -> tuple[StartedProcess, ...]:
        """What was started in a way that raises no event, such as by C code, and lives."""
        if self.vm.exit is None or self.vm.exit.signal is None or self.contenders:
            return ()  # nobody asks, or a contender may have done it
        own = {*wardens, *helpers_of_multiprocessing(), self.vm.pid}
        return tuple(
            StartedProcess(at_ns=None, text=f"pid {pid}")
            for pid in self._lineage.children()
            if pid not in own and not self.vm.attends(pid) and not self.vm.is_part(pid)
        )

    def damage(self, audit: Audit, suspects: Suspects) -> Iterator[Disturbance]:
        """What others have done to the VM's journal, to the fake itself, and to its helpers."""
        journal = self.vm.journal
        if audit.damaged is not None and journal.last("start") is None:
            yield Disturbance(what="journal", by="outside", text=audit.damaged)
        elif not _content(journal.path).startswith(self._journal_before):
            text = f"the disk's journal {journal.path} was damaged: lines are gone, or were changed"
            yield Disturbance(what="journal", by="outside", text=text)
        if (fault := self.vm.fault) is not None:
            yield Disturbance(what="fault", by="outside", text=fault)
        lost = self.vm.infrastructure_lost
        if lost is not None and not suspects.processes and not self._signalled_infrastructure():
            text = f"{lost}, and nobody of the trial has signalled it"
            yield Disturbance(what="process", by="outside", text=text)

    def _signalled_infrastructure(self) -> bool:
        """Whether the routine has sent a signal to the VM's wrapper, or to a group."""
        pid = self.vm.infrastructure_pid
        return any(
            s.signum and not s.refused and (s.pid == pid or s.to in ("wrapper", "group"))
            for s in self.recorder.sent
        )

    def expects_death(self, journal: Sequence[Entry], suspects: Suspects) -> bool:
        """Whether the test itself has ended a VM that was dead before the call.

        It had seen the end of one that it hands in, or its adapter has made an end of it.
        """
        if self.death_expected or self.unstarted is None:
            return self.death_expected
        ended = self.vm.gone_at
        by_signal = any(s.reached_vm and s.signum for s in self.recorder.sent)
        by_process = ended is not None and any(
            process.at_ns is None or process.at_ns < ended * 1e9 for process in suspects.processes
        )
        return by_signal or by_process or bool(requests_of(journal))

    def restarts(self) -> tuple[Start, ...]:
        """The starts of the VM after its end."""
        if self.unstarted is None:
            return ()
        return tuple(
            Start(pid=start.pid, at_ns=start.at_ns, by=start.by)
            for start in self.unstarted.restarts()
        )

    def note_evidence(self, *, ended_by_trial: bool) -> None:
        """Put on record what else a picture shows: everybody's operations, and the VM's end."""
        everybody: list[Contender | LoopContender] = [*self.contenders, *self.loop_contenders]
        for contender in everybody:
            self.history.record(
                "operations",
                contender.actor,
                contender.spans[0][0] if contender.spans else None,
                name=contender.name,
                by_latency=contender.by_latency,
                spans=list(contender.spans),
            )
        ended, gone = self.vm.exit, self.vm.gone_at
        if ended is not None:
            self.history.record(
                "gone",
                "fake",
                int((ended.at if gone is None else gone) * 1e9),
                code=ended.code,
                signal=ended.signal,
                by_trial=ended_by_trial,
            )

    def kill_vm(self) -> None:
        """End everything that has the VM's mark."""
        vm = self.started_vm
        if vm is not None:
            vm.kill()
        elif self.unstarted is not None:
            self.unstarted.prepared.mark.sweep()

    def _whose(self, pid: int) -> Known | None:
        """What a live process is to this trial: the VM, one of its helpers, a stranger (None)."""
        vm = self.started_vm
        if vm is not None:
            if pid == vm.pid:
                # the pidfd tells whether this number still is the VM; a forked child may have
                # closed it, and go by the mark
                same = pid_of(vm.pidfd)
                known = same == pid or (same is None and vm.is_part(pid))
                return Known("vm", "the VM") if known else None
            if vm.is_part(pid):
                wrapper = pid == vm.started_pid
                return (
                    Known("wrapper", "its wrapper") if wrapper else Known("helper", f"helper {pid}")
                )
        if self.driving is not None and (other := self.driving.whose(pid)) is not None:
            return Known("other run", other)
        # not its `pid`: that takes a lock, which another thread may have held at a fork
        starts = [] if vm is not None or self.unstarted is None else self.unstarted.starts
        if starts and starts[0].pid == pid:
            return Known("vm", "the VM")
        if vm is not None and vm.attends(pid):
            return None  # who reaps it is ours, and no part of the trial
        # it may signal whatever it has started: a shell around the VM, a command that takes long
        ours = self._lineage.came_since(pid)
        return Known("routine's process", f"the routine's process {pid}") if ours else None

    def _start_contenders(self) -> None:
        for contender in self.contenders:
            contender.start()
        deadline = clock.monotonic() + WARM_UP
        for contender in self.contenders:
            contender.wait_warm(deadline)
        for contender in self.contenders:
            if contender.misuse is not None:
                raise contender.misuse

    def patience(self, contender: Contender | LoopContender) -> float:
        """Seconds for which the trial waits for a contender to come back after the call."""
        seconds = allowance(
            contender, self.history.origin_ns, self._plan.stall_limit, self.standstills.gaps
        )
        left = inf if self._plan.deadline is None else self._plan.deadline - clock.monotonic()
        return max(min(seconds, _LONGEST_ALLOWANCE, left - _MARGIN), 0.0)

    def choreograph(self) -> None:
        """Have the acts played at their points, when the calling thread calls the routine."""
        if self.driving is not None:
            self._choreography = self.driving.choreography(threading.get_ident())
        if self._choreography is not None:
            self.recorder.after_signal = self._choreography.after_signal

    def returned(self) -> None:
        """Play no acts any more: the call that they belong to has ended."""
        if self._choreography is not None:
            self._choreography.close()

    @property
    def acts(self) -> ActsSeen:
        """What became of the choreography; asked for when everybody has ended."""
        if self._choreography is None:
            return ActsSeen()
        return ActsSeen(
            missed=self._choreography.missed,
            failed=tuple(self._choreography.failed),
            pauses=tuple(self._choreography.pauses),
            actors=frozenset(self._choreography.actors),
        )

    # -- the locks of the calling thread

    def take(self) -> tuple[str, ...]:
        """Take what the caller of a routine holds: a reference, and both locks in their order."""
        if self.tracer is not None:
            self.tracer.operate()
        if self.driving is not None:
            driver, domain = self.driving.driver, self.driving.domain
            if self.driving.caller_has_reference:
                # the routine's is not enough
                domain.ref()
            driver.lock.acquire()
            domain.lock.acquire()
        return self.held()

    def held(self) -> tuple[str, ...]:
        """The names of the traced locks that the calling thread holds."""
        if self.tracer is None:
            return ()
        return tuple(lock.name for lock in self.tracer.held_by(threading.get_ident()))

    def let_go(self) -> None:
        """Release what the calling thread holds, so that the contenders go on."""
        if self.tracer is not None:
            self.tracer.end_tries()
            for lock in reversed(self.tracer.held_by(threading.get_ident())):
                while lock.held():  # as often as it was taken
                    lock.release()

    def untraced_holds(
        self, routine: frozenset[str], called_ns: int, returned_ns: int
    ) -> list[Hold]:
        """Holds of traced locks through references that are not traced, long enough to disturb."""
        if self.untraced is None:
            return []
        shortest_ns = int(SHORTEST_WAIT / 2 * 1e9)
        return self.untraced.holds(shortest_ns, routine, called_ns, returned_ns)

    def lock_state(self, at_entry: tuple[str, ...], at_return: tuple[str, ...]) -> LockState | None:
        """What is known of the traced locks; None when there are none."""
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
            cycles=(*self.tracer.order_cycles(), *self._closed_in_session()),
            kept=() if self.untraced is None else tuple(self.untraced.kept().items()),
        )

    def _closed_in_session(self) -> list[OrderCycle]:
        """The cycles in the order of locks that need this trial and earlier ones."""
        if self._plan.session_order is None or self.tracer is None:
            return []
        return self._plan.session_order.close(self.tracer.order)

    # -- what is left

    def leftovers(self) -> Leftovers:
        """See what of the VM is still there."""
        vm = self.vm
        wrapper = {vm.started_pid} - {vm.pid}
        disk = Held(what="disk lock", path=vm.disk.path)
        holds: list[tuple[Held, Callable[[], bool]]] = [(disk, vm.disk.locked)]
        if vm.knobs.topology == "daemon" and self._kind != "driver":
            # a driver routine leaves the pid file to its caller, as libvirt's does
            holds.append((Held(what="pid file", path=vm.pid_file), vm.pid_file.exists))
        if vm.qmp is not None and self.unstarted is not None:
            socket = Path(vm.qmp)
            holds.append((Held(what="QMP socket", path=socket), socket.exists))

        def orphans() -> Iterator[Orphan]:
            for pid in vm.processes():
                yield Orphan(pid=pid, role="wrapper" if pid in wrapper else "helper")

        return look(started=1 + len(wrapper) + vm.knobs.helpers, processes=orphans, holds=holds)

    def quiesce(self, *, patient: bool = True) -> None:
        """No thread of ours goes on; locks that a lost thread holds are opened for the others.

        ``patient``: as long as a contender may take to come back; else for some seconds.
        """
        with ExitStack() as steps:
            # from the last to the first, whatever one of them raises
            steps.callback(self._stop_contenders, inf if patient else WARM_UP)
            if self._choreography is not None:
                # not before the locks are let go: an act may have stood before one of them
                steps.callback(self._choreography.end, JOIN)
            steps.callback(self.let_go)
            steps.callback(self.returned)

    def _stop_contenders(self, most: float) -> None:
        # one that is slow by itself has the time that it takes
        busy = [contender for contender in self.contenders if contender.stuck is None]
        stuck = stop_all(busy, lambda contender: min(self.patience(contender), most))
        if self.tracer is None:
            return
        self.tracer.stop()
        deadline, opened = clock.monotonic() + JOIN, False
        while stuck and clock.monotonic() < deadline:
            # only its owner can open an RLock
            lost = [lock for lock in self.tracer.locks if not lock.reentrant and _is_lost(lock)]
            opened = opened or bool(lost)
            if not opened:
                return
            for lock in lost:
                lock.release()
            stuck = stop_all(stuck, lambda _contender: 0.05)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _is_lost(lock: TracedLock) -> bool:
    """Whether it is held by a thread that has ended, or by a caller that was cut off in vain."""
    hold = lock.hold
    if hold is None:
        return False
    thread = hold[0].thread()
    return thread is None or not thread.is_alive() or thread.name.startswith(CALLER)


def _named(work: tuple[Callable[[], object], ...]) -> Iterator[tuple[str, Callable[[], object]]]:
    """What the user handed in as contenders, each under the callable's name."""
    names: dict[str, int] = {}
    for operation in work:
        name = name_of(operation)
        names[name] = names.get(name, 0) + 1
        number = f"-{names[name]}" if names[name] > 1 else ""
        yield f"{name}{number}", operation


def _is_users(thread: threading.Thread) -> bool:
    """Whether a thread is none of ours."""
    return not thread.name.startswith("gracekill:")
