"""One schedule: who performs which operation when, on a clock that moves only if it is told to.

Every operation of a task is a yield point, `Run.perform`: the task announces what it is about to
do, and whoever has the baton asks the strategy who goes next. A task is enabled when its operation
is ready, or its deadline has come. When nobody is enabled the clock moves on to the next deadline,
and all that is due then is due at once; where there is no deadline either, the schedule ends.

Time is in integer nanoseconds: 35 x 0.2 is not 7.0 in floats, and hides a deadlock.
"""

from __future__ import annotations

import _thread
import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from pytest_gracekill.errors import StartError, UsageError
from pytest_gracekill.explore.points import DivergedError, Touched
from pytest_gracekill.explore.standstill import Standstill
from pytest_gracekill.explore.tasks import TASKS, TIME, Abandoned, Ready, Task
from pytest_gracekill.witness.sites import Frame, calling_site, current_stack, frames_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from types import FrameType

    from pytest_gracekill.explore.locks import Lock
    from pytest_gracekill.explore.points import Strategy
    from pytest_gracekill.explore.vm import SimulatedVm
    from pytest_gracekill.explore.workers import Pool
    from pytest_gracekill.witness.signals import SentSignal
    from pytest_gracekill.witness.sites import Site

# lock, (task, since_ns, site), until_ns: the shape that a history has, too
Held: TypeAlias = "tuple[Lock, tuple[Task, int, Site], int | None]"
# lock, task, since_ns, until_ns, acquired, timed, site
Waited: TypeAlias = "tuple[Lock, Task, int, int | None, bool, bool, Site]"

Clock: TypeAlias = Literal["jump", "explore"]
#: How a schedule has ended: everybody did, nobody could go on, it was not needed, or it was cut.
Outcome: TypeAlias = Literal["ended", "stuck", "pruned", "late", "long"]

#: The clock at the beginning, in nanoseconds: whoever takes 0.0 for "no time" is not led astray.
START_NS = 1_000_000_000_000
#: Operations of one schedule; beyond that it goes in circles.
LONGEST = 20_000
#: Wall seconds between two looks at a task that does not come back.
_LOOK = 0.5
#: Operations that a task which is told to end may still try.
_LAST_TRIES = 1_000

#: Above every descriptor that a process can have open.
_FIRST_PIDFD = 2_000_000_000 - 1_000_000

_allocate_lock = _thread.allocate_lock
_get_ident = _thread.get_ident


def never() -> bool:
    """What only time makes ready."""
    return False


def _nothing() -> None:
    """What a task does that nobody runs any more."""


class Timer(Protocol):
    """Something that does something by itself when its time has come: a simulated VM."""

    mask: int

    def due(self, now: int) -> int | None:
        """When it does something next, after ``now``; None when it never does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a schedule, as a person can follow it."""

    at_ns: int
    actor: str
    text: str
    site: Frame | None

    def __str__(self) -> str:
        where = "" if self.site is None else f"  {self.site}"
        return f"{self.actor} {self.text}{where}"


def as_ns(seconds: float) -> int:
    """Seconds in whole nanoseconds."""
    return round(seconds * 1e9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a task stood when the schedule ended, and what it waited for.

    ``owner``: who held the lock that it waited for. ``stack`` is there in a recorded run.
    """

    kind: str
    what: object
    lock: Lock | None
    owner: Task | None
    held_since: int
    taken_at: tuple[Frame, ...]
    since: int
    order: int
    awaits: object
    stack: tuple[Frame, ...]


class Run:
    """One schedule. ``recorded``: with sites and steps, for a report; else for speed."""

    def __init__(
        self, pool: Pool, strategy: Strategy, *, clock: Clock, recorded: bool = False
    ) -> None:
        self.now = START_NS
        self.clock: Clock = clock
        self.explores_time = clock == "explore"
        self.recorded = recorded
        self.tasks: list[Task] = []
        self.timers: list[Timer] = []
        self.locks: list[Lock] = []
        #: The simulated VMs by their pids; ``target`` is the one that is to be killed.
        self.vms: dict[int, SimulatedVm] = {}
        self.target: SimulatedVm | None = None
        self.pidfds: dict[int, SimulatedVm] = {}
        self.signals: list[SentSignal] = []
        #: What took time: holds (lock, (task, since, site), until), and waits.
        self.holds: list[Held] = []
        self.waits: list[Waited] = []
        self.latest: int | None = None
        self.outcome: Outcome | None = None
        self.abandoning = False
        self.steps: list[Step] = []
        #: Operations so far; the watchdog sees by it that somebody goes on.
        self.performed = 0
        #: When a task stood ready while time passed by choice: (task, from, until).
        self.delays: list[tuple[Task, int, int]] = []
        self._pool = pool
        self._strategy = strategy
        self._live: list[Task] = []
        #: What stood still at the end: tasks, and by their index what they stood before.
        self.left: tuple[Task, ...] = ()
        self.standing: dict[int, Standing] = {}
        self.diverged: DivergedError | None = None
        #: What the program asked for that is not simulated.
        self.refused: UsageError | None = None
        #: Told of each call into C, where real locks are looked for.
        self.watch: Callable[[FrameType, str, object], None] | None = None
        #: What threads that are used again must not find as the one before them left it.
        self.thread_locals: Sequence[threading.local] = ()
        #: Who had the baton at the end.
        self.last_holder: Task | None = None
        self.acquisitions = 0
        #: What the operation before this point has touched; of a step of time nothing but time.
        self.last: Touched = (0, 0, False)
        self._descriptors = 0
        self._done = _allocate_lock()
        self._done.acquire()
        self._tries = 0
        #: Tasks that have not come back, and never will.
        self.lost: list[Task] = []
        #: How many threads were made without a name.
        self.unnamed_threads = 0
        self._main = Task(self, 0, "setup", lambda: None)
        self.holder: Task | None = None

    # -- before and after

    def new_bit(self) -> int:
        """A bit for one object: for the n-th of a task the same one in every schedule."""
        maker = TASKS.get(_get_ident(), self._main)
        maker.made += 1
        return self._pool.bit_of(maker.index if maker is not self._main else -1, maker.made)

    def new_pidfd(self, vm: SimulatedVm) -> int:
        """A descriptor of a VM; no real one has such a number."""
        self._descriptors += 1
        fd = _FIRST_PIDFD + self._descriptors
        self.pidfds[fd] = vm
        return fd

    def note_wait(self, lock: Lock, task: Task, *, acquired: bool, timed: bool) -> None:
        """A wait for a lock has ended, and took time."""
        self.waits.append((lock, task, task.since, self.now, acquired, timed, task.site))

    def note_hold(self, lock: Lock, task: Task) -> None:
        """A lock is given back, and was held for a while."""
        self.holds.append((lock, (task, lock.since, lock.site), self.now))

    def add(self, name: str, body: Callable[[], object]) -> Task:
        """A task that may begin at once."""
        task = Task(self, len(self.tasks), name, body)
        task.bit = task.mask = self.new_bit()
        self.tasks.append(task)
        self._live.append(task)
        task.worker = self._pool.take(task)
        return task

    def alone(self, work: Callable[[], object]) -> object:
        """Call something in this thread, while no task runs: nobody is switched to."""
        ident = _get_ident()
        if ident in TASKS:
            raise UsageError("an exploration within an exploration is not simulated")
        TASKS[ident] = self._main
        try:
            return work()
        finally:
            del TASKS[ident]

    def go(self) -> None:
        """Run the tasks to the end of the schedule.

        :raises StartError: a task blocks for real; it names the line.
        """
        try:
            first = self._next(None)
            if first is not None:
                self.holder = first
                assert first.worker is not None
                first.worker.gate.release()
                self._await_end()
            self._note_end()
        except BaseException:
            self.abandon()
            raise
        self.abandon()
        if self.lost:
            raise StartError(f"{self.lost[0].name} does not end when it is told to")

    def forget(self) -> None:
        """Let go of all there was, once it has been judged.

        Whatever knows its run is known by it; without these circles everything is freed at once,
        and the collector, which would take an eighth of an exploration, has little left to do.
        """
        for task in self.tasks:
            task.body = _nothing
        del self._main
        self.tasks.clear()
        self.timers.clear()
        self.locks.clear()
        self.vms.clear()
        self.pidfds.clear()
        self.standing.clear()
        self.delays.clear()
        self.holds.clear()
        self.waits.clear()
        self.target = self.holder = self.last_holder = None
        self.left = ()

    def _note_end(self) -> None:
        """Look at what there is before the tasks that are left are made to end."""
        self.left = tuple(self._live)
        self.last_holder = self.holder
        for lock in self.locks:
            if lock.owner is not None and self.now != lock.since:
                self.holds.append((lock, (lock.owner, lock.since, lock.site), None))
        for task in self._live:
            lock_ = task.waits_for
            if lock_ is not None and self.now != task.since:
                self.waits.append((lock_, task, task.since, None, False, False, task.site))
            owner = None if lock_ is None else lock_.owner
            stack: tuple[Frame, ...] = ()
            if self.recorded and task.worker is not None:
                stack = current_stack(task.worker.ident)
            self.standing[task.index] = Standing(
                kind=task.kind,
                what=task.what,
                lock=lock_,
                owner=owner,
                held_since=0 if lock_ is None else lock_.since,
                taken_at=frames_of(lock_.site) if self.recorded and lock_ is not None else (),
                since=task.since,
                order=task.order,
                awaits=task.awaits,
                stack=stack,
            )

    def _await_end(self) -> None:
        judged = self._until_done()
        if judged is not None:
            raise self._blocked(judged)

    def _until_done(self) -> str | None:
        """Wait until the baton is back; else what the task that has it does instead."""
        seen, watched, still = -1, self.holder, None
        while not self._done.acquire(timeout=_LOOK):
            holder = self.holder
            if self.performed != seen or still is None or holder is not watched:
                seen, watched = self.performed, holder
                assert holder is not None
                assert holder.worker is not None
                still = Standstill(holder.worker.thread)
            elif (judged := still.judged()) is not None:
                return judged
        return None

    def _blocked(self, judged: str) -> StartError:
        task = self.holder
        assert task is not None
        worker = task.worker
        stack = () if worker is None else current_stack(worker.ident)
        where = f" at {stack[0]}" if stack else ""
        self._lose(task, judged)
        if judged == "computes":
            return StartError(f"{task.name} does not come back{where}: it computes for seconds")
        return StartError(
            f"{task.name} does not come back{where}: it waits for something that is not simulated"
            " (a lock that was made before the exploration has to be named in locks=)"
        )

    def _lose(self, task: Task, judged: str) -> None:
        """Do without a task; should its thread come back, it ends."""
        self.abandoning = True
        if task in self._live:
            self._live.remove(task)
            self.lost.append(task)
        if judged == "computes" and task.worker is not None:
            # it has no operation at which it could be told
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(task.worker.ident), ctypes.py_object(Abandoned)
            )

    def abandon(self) -> None:
        """Have every task end that has not, one at a time."""
        self.abandoning = True
        # one that was interrupted in its midst ends at its next operation
        running = self.outcome is None and self.holder in self._live
        while self._live:
            if not running:
                self.holder = self._live[0]
                assert self.holder.worker is not None
                self.holder.worker.gate.release()
            running = False
            judged = self._until_done()
            if judged is not None:
                assert self.holder is not None
                self._lose(self.holder, judged)

    def ended(self, task: Task) -> bool:
        """Go on after the end of a task; called in its thread, which is of no use if False."""
        if task in self.lost:
            return False
        self._live.remove(task)
        self.last = task.mask, task.reads, task.timed
        assert task.worker is not None
        if not self.abandoning:
            following = self._next(None)
        else:
            following = self._live[0] if self._live else None
        self._pool.give_back(task.worker)
        if following is None:
            self._done.release()
        else:
            self.holder = following
            assert following.worker is not None
            following.worker.gate.release()
        return True

    # -- operations

    def perform(  # noqa: PLR0917 - the hottest call of all: by position
        self,
        task: Task,
        kind: str,
        what: object,
        mask: int,
        ready: Ready = None,
        deadline: int | None = None,
        *,
        timed: bool = False,
        reads: bool = False,
    ) -> bool:
        """Announce an operation, and return when it may be performed: now, with nobody beside.

        False when its deadline has come and it is not ready. What follows, up to the next
        announcement, is the operation. ``reads``: it only looks at what ``mask`` stands for.
        """
        if task is self._main:
            # also the check, which comes when every other task has been made to end
            return self._perform_alone(task, kind, what, ready, deadline)
        if self.abandoning:
            self._tries += 1
            if self._tries > _LAST_TRIES:
                self._give_up()
            raise Abandoned
        # what its last operation has touched is known only now
        self.last = task.mask, task.reads, task.timed
        task.kind = kind
        task.what = what
        task.mask = task.bit if reads else mask | task.bit
        task.reads = mask if reads else 0
        task.ready = ready
        task.deadline = deadline
        task.timed = timed
        if self.recorded:
            task.site = calling_site()
        chosen = self._next(task)
        if chosen is not task:
            worker = task.worker
            assert worker is not None
            if chosen is None:
                self._done.release()
            else:
                self.holder = chosen
                assert chosen.worker is not None
                chosen.worker.gate.release()
            worker.gate.acquire()
            if self.abandoning:
                raise Abandoned
        task.deadline = None
        return ready is None or ready()

    def wait(  # noqa: PLR0917 - as perform
        self,
        task: Task,
        kind: str,
        what: object,
        mask: int,
        ready: Ready,
        timeout: float | None,
        *,
        reads: bool = False,
    ) -> bool:
        """As `perform`, for ``timeout`` seconds at most (None: for ever)."""
        if timeout is None:
            return self.perform(task, kind, what, mask, ready, reads=reads)
        if timeout <= 0:
            self.perform(task, kind, what, mask, timed=not reads, reads=reads)
            return ready is None or ready()
        if self.explores_time:
            # time may pass before it begins to wait
            self.perform(task, f"pauses before it {kind}", what, 0, timed=True)
        deadline = self.now + as_ns(timeout)
        return self.perform(task, kind, what, mask, ready, deadline, timed=True, reads=reads)

    def read_clock(self, task: Task) -> int:
        """The time now; where time can pass beside others, it may do so before that."""
        if self.explores_time:
            self.perform(task, "reads", "the clock", 0, timed=True)
        elif self.abandoning:
            self.perform(task, "reads", "the clock", 0)
        else:
            # a loop that only looks at the clock would never end
            self.performed += 1
            if self.performed > LONGEST:
                self.perform(task, "reads", "the clock", 0)
        return self.now

    def _perform_alone(
        self, task: Task, kind: str, what: object, ready: Ready, deadline: int | None
    ) -> bool:
        if ready is None or ready():
            return True
        if deadline is None:
            raise RuntimeError(f"{task.name} would {kind} {what} for ever: nobody else runs yet")
        self.now = max(self.now, deadline)
        return ready()

    def _give_up(self) -> None:
        """A task that does not let itself be ended is left behind, with its thread."""
        self._tries = 0
        task = TASKS.pop(_get_ident())
        self._live.remove(task)
        if self._live:
            self.holder = self._live[0]
            assert self.holder.worker is not None
            self.holder.worker.gate.release()
        else:
            self._done.release()
        for_good = _allocate_lock()
        for_good.acquire()
        for_good.acquire()

    # -- who is next

    def _next(self, current: Task | None) -> Task | None:  # noqa: C901, PLR0911, PLR0912 - every step goes through here
        """Who performs its operation now; None when the schedule has ended, and how it did."""
        self.performed += 1
        if self.performed > LONGEST:
            self.outcome = "long"
            return None
        while True:
            now = self.now
            options = [
                task.index
                for task in self._live
                if (ready := task.ready) is None
                or ready()
                or ((deadline := task.deadline) is not None and deadline <= now)
            ]
            if not options:
                if all(task.daemon for task in self._live):
                    # nobody waits for the end of a daemon
                    self.outcome = "ended"
                    return None
                due = self._due()
                if due is None:
                    self.outcome = "stuck"
                    return None
                if self.latest is not None and due > self.latest:
                    self.outcome = "late"
                    return None
                if not self._strategy.time_was_forced(self):
                    self.outcome = "pruned"
                    return None
                self.now = due
                continue
            due = self._due() if self.explores_time else None
            if due is not None and (self.latest is None or due <= self.latest):
                options.append(TIME)
            here = None
            if current is not None and current.index in options:
                here = current.index
            try:
                choice = self._strategy.pick(self, here, options)
            except DivergedError as error:
                # told by whoever explores, not by the task that happened to be here
                self.diverged = error
                choice = None
            if choice is None:
                self.outcome = "pruned"
                return None
            if choice != TIME:
                chosen = self.tasks[choice]
                if self.recorded:
                    self._record(chosen)
                return chosen
            assert due is not None
            self._delay(options, due)
            self.last = self.time_touches(due)
            self.now = due
            if self.recorded:
                self.steps.append(Step(at_ns=due, actor="time", text="passes", site=None))

    def time_touches(self, due: int | None = None) -> Touched:
        """What the next step of time changes, beside the time."""
        if due is None:
            due = self._due()
        changed = 0
        for timer in self.timers:
            if due is not None and timer.due(self.now) == due:
                changed |= timer.mask
        return changed, 0, True

    def _due(self) -> int | None:
        """The next moment at which something happens by itself."""
        now = self.now
        due: int | None = None
        for task in self._live:
            at = task.deadline
            if at is not None and at > now and (due is None or at < due):
                due = at
        for timer in self.timers:
            at = timer.due(now)
            if at is not None and (due is None or at < due):
                due = at
        return due

    def _delay(self, options: Sequence[int], until: int) -> None:
        self.delays += [(self.tasks[i], self.now, until) for i in options if i != TIME]

    def _record(self, task: Task) -> None:
        site = frames_of(task.site)
        text = f"{task.kind} {task.what}".strip()
        self.steps.append(
            Step(at_ns=self.now, actor=task.name, text=text, site=site[0] if site else None)
        )

    @property
    def live(self) -> tuple[Task, ...]:
        """The tasks that have not ended."""
        return tuple(self._live)
