"""Everything that was seen of one trial, in the form in which the verdicts read it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from pytest_gracekill.data.disturbances import NO_SUSPECTS, Suspects
from pytest_gracekill.verdicts.requests import deadly, effective, requests
from pytest_gracekill.witness.standstill import overlap

if TYPE_CHECKING:
    from pytest_gracekill.child.disk import Audit
    from pytest_gracekill.child.handle import Exit
    from pytest_gracekill.child.journal import Entry
    from pytest_gracekill.child.knobs import Knobs
    from pytest_gracekill.data.disturbances import Disturbance
    from pytest_gracekill.data.requests import PendingSignal, Request, Start
    from pytest_gracekill.report import Call
    from pytest_gracekill.witness.contenders import Stuck
    from pytest_gracekill.witness.dead_end import AnyDeadlock
    from pytest_gracekill.witness.history import Frame, Hold, Wait
    from pytest_gracekill.witness.identity import CleanUp, FreedUse
    from pytest_gracekill.witness.leftovers import Leftovers
    from pytest_gracekill.witness.lock_order import OrderCycle
    from pytest_gracekill.witness.process_tree import CommandSeen
    from pytest_gracekill.witness.signals import SentSignal

#: How exact "at the moment of" is, in seconds: an end of file precedes the exit by milliseconds.
TOLERANCE = 0.020

#: Holds and waits that are shorter than this are not looked at, but for the routine's own holds:
#: there are tens of thousands, and even many of them make no stall. In nanoseconds.
SHORT_NS = 1_000_000

#: A routine that waits for less than this stalls nobody: a busy machine lets a thread that holds a
#: lock stand for a tenth of a second.
SHORTEST_WAIT = 0.250


class Contending(Protocol):
    """A contender as it is judged: a thread, a task of an event loop, one of an exploration."""

    name: str
    by_latency: bool
    error: BaseException | None
    raised_ns: int | None
    spans: list[tuple[int, int]]

    @property
    def stuck(self) -> Stuck | None: ...

    @property
    def actor(self) -> str: ...

    @property
    def operations(self) -> int: ...


def too_busy(needed: float, given: float | None) -> str | None:
    """Why a loss is the machine's and not the routine's, or None: of a VM that lost data.

    ``needed`` seconds are what its flush takes, ``given`` those from the request to its end.
    """
    if given is None or given <= needed + TOLERANCE:
        return None
    return (
        f"the VM needs {needed:.2f} s and was given {given:.2f} s, and was still behind: the"
        " machine was too busy"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What the routine promised, by its flags or by what the test said of it.

    ``force``: it may and shall send SIGKILL; ``None``: nothing was said. ``survive``: the flush
    time in seconds that it promises to survive, ``None`` where there is none; ``survive_asked``:
    the test itself asked for it, in the call or by the marker. ``returns``: success means that the
    VM is gone, or only that it has been requested to stop. ``vm_needs_longer``: the VM needs more
    than ``survive`` for its end; any other one that ends later was held up by the machine.
    """

    force: bool | None
    nowait: bool
    survive: float | None
    grace: float | None
    takes_driver: bool
    slack: float
    stall_limit: float
    budget: float
    survive_asked: bool = False
    returns: Literal["gone", "requested"] = "gone"
    vm_needs_longer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LockState:
    """The names of the traced locks that the routine's thread held when it was called and after.

    ``order_is_judged``: not where every order of the threads is run, and deadlocks or does not.
    """

    traced: int
    acquisitions: int
    at_entry: tuple[str, ...]
    at_return: tuple[str, ...]
    deadlocks: tuple[AnyDeadlock, ...]
    cycles: tuple[OrderCycle, ...]
    order_is_judged: bool = True
    #: Locks that are held after the call through a reference that is not traced, and by whom.
    kept: tuple[tuple[str, str | None], ...] = ()

    @property
    def untouched(self) -> str:
        """What there is to say when nobody has taken any of the locks; empty when somebody has."""
        if self.acquisitions:
            return ""
        locks = "the traced lock" if self.traced == 1 else f"any of the {self.traced} traced locks"
        return f"nobody took {locks}: nothing was seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySeen:
    """What became of the model's domains; ``incarnation`` is the id of the run to be killed.

    ``other_hit``: when which signal has come to the VM that was started meanwhile.
    """

    domain: str
    incarnation: int
    uses: tuple[FreedUse, ...]
    clean_ups: tuple[CleanUp, ...]
    other_hit: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActsSeen:
    """What became of the choreography.

    ``missed``: points that the routine has not come to. ``failed``: acts that raised, or did not
    end. ``pauses``: from when until when the routine was held for an act. ``actors``: the threads
    that have played.
    """

    missed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    pauses: tuple[tuple[int, int], ...] = ()
    actors: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One more caller of the routine, beside the first: what it was told, and when."""

    actor: str
    call: Call
    called_ns: int
    returned_ns: int
    hung_in: tuple[Frame, ...]
    alive_at_return: bool
    at_entry: tuple[str, ...]
    at_return: tuple[str, ...]
    hung_command: CommandSeen | None = None
    ended_at_return: bool = False
    knew_the_end: bool = False

    def __str__(self) -> str:
        return f"{self.actor.removeprefix('gracekill:')} {self.call}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One trial as it was seen. Times are CLOCK_MONOTONIC nanoseconds, in child and parent alike.

    ``beside``: where the other threads stood when the call was cut off, innermost first.
    ``hung_command``: the stop command at that moment, where the routine is a command.
    ``call``, ``called_ns``, ``returned_ns``, ``hung_in``, ``routine_actor`` and ``alive_at_return``
    are of the first caller; ``others`` are the further ones, `views` the evidence as each saw it.
    ``returned_ns`` is the moment of the cut when the routine was cut off. ``alive_at_return``: the
    VM had not exited then, with :data:`TOLERANCE`; ``ended_at_return``: it had, exactly then.
    ``knew_the_end``: the routine had seen the end by then, since the VM was its child and the
    zombie was gone, or, in an exploration, by its last look. ``gone_ns`` is when the end was seen
    from outside, ``exit_ns`` is the exit by the VM's journal, ``None`` when the trial had to end
    the VM itself (``ended_by_trial``). ``death_expected``: the test itself had ended a VM that was
    dead before the call. ``restarts``: the starts of the VM after its end.
    """

    knobs: Knobs
    promise: Promise
    call: Call
    called_ns: int
    returned_ns: int
    hung_in: tuple[Frame, ...]
    routine_actor: str
    first_request_ns: int | None
    signals: tuple[SentSignal, ...]
    journal: tuple[Entry, ...]
    exit: Exit | None
    exit_ns: int | None
    alive_at_return: bool
    ended_by_trial: bool
    audit: Audit
    holds: tuple[Hold, ...]
    waits: tuple[Wait, ...]
    lock_state: LockState | None
    contenders: tuple[Contending, ...]
    leftovers: Leftovers | None
    identity: IdentitySeen | None
    acts: ActsSeen = ActsSeen()
    beside: tuple[tuple[str, tuple[Frame, ...]], ...] = ()
    others: tuple[Caller, ...] = ()
    origin_ns: int | None = None
    gone_ns: int | None = None
    hung_command: CommandSeen | None = None
    #: From when until when the whole process stood still, which is nobody's doing.
    stood_still: tuple[tuple[int, int], ...] = ()
    #: From when until when the routine's thread kept the interpreter lock.
    interpreter_kept: tuple[tuple[int, int], ...] = ()
    ended_at_return: bool = False
    knew_the_end: bool = False
    death_expected: bool = True
    pending: tuple[PendingSignal, ...] = ()
    #: When the VM was seen to be stopped (SIGSTOP).
    stopped: tuple[int, ...] = ()
    restarts: tuple[Start, ...] = ()
    suspects: Suspects = NO_SUSPECTS
    #: What was seen to be damaged or lost by others, beside the disk, of which the audit tells.
    damage: tuple[Disturbance, ...] = ()

    @property
    def views(self) -> tuple[Evidence, ...]:
        """The evidence as each caller saw it, the first one's first."""
        return (self, *(self._as(caller) for caller in self.others))

    def _as(self, caller: Caller) -> Evidence:
        state = self.lock_state
        if state is not None:
            state = replace(state, at_entry=caller.at_entry, at_return=caller.at_return)
        return replace(
            self,
            call=caller.call,
            called_ns=caller.called_ns,
            returned_ns=caller.returned_ns,
            hung_in=caller.hung_in,
            hung_command=caller.hung_command,
            routine_actor=caller.actor,
            alive_at_return=caller.alive_at_return,
            ended_at_return=caller.ended_at_return,
            knew_the_end=caller.knew_the_end,
            lock_state=state,
            origin_ns=self.origin,
            others=(),
        )

    @property
    def whole(self) -> Evidence:
        """The evidence as seen from outside: the routine returned when its last caller did."""
        last = max(self.returned_ns, *(caller.returned_ns for caller in self.others), 0)
        return replace(self, returned_ns=last)

    @property
    def ended_ns(self) -> int | None:
        """When anybody could know of the exit: a process that is starved ends late."""
        if self.exit_ns is None or self.gone_ns is None:
            return self.exit_ns
        return max(self.exit_ns, self.gone_ns)

    @property
    def origin(self) -> int:
        """The moment from which stamps count: the first call."""
        return self.called_ns if self.origin_ns is None else self.origin_ns

    @property
    def routine_actors(self) -> frozenset[str]:
        """The names of all threads in which the routine was called."""
        return frozenset((self.routine_actor, *(caller.actor for caller in self.others)))

    def by_act(self, actor: str) -> bool:
        """Whether this thread has played an act: what it does is not the routine's doing."""
        return actor in self.acts.actors

    @property
    def caller(self) -> str:
        """Which caller this view is of, as people read it; empty for the first."""
        if self.origin_ns is None:
            return ""
        return f"{self.routine_actor.removeprefix('gracekill:')}: "

    @property
    def hung(self) -> bool:
        return self.call.success is None

    @property
    def wait(self) -> float:
        """How long the routine took, in seconds: the wait during which others should go on."""
        return (self.returned_ns - self.called_ns) / 1e9

    @property
    def own_wait(self) -> float:
        """Of these seconds, those in which the routine was not held for an act."""
        return self.wait - self.held_up(self.called_ns, self.returned_ns) / 1e9

    def held_up(self, since_ns: int, until_ns: int) -> int:
        """For how many nanoseconds of these the routine could not go on, which is not its doing.

        The first caller is held for an act; anybody is while the whole process stands still.
        """
        pauses = self.acts.pauses if self.origin_ns is None else ()
        return overlap((*self.stood_still, *pauses), since_ns, until_ns)

    @property
    def waited(self) -> bool:
        """Whether there was a wait of its own in which others could be held up.

        A routine that sent nothing has nothing to wait for: it counts from ``stall_limit`` on.
        """
        signalled = self.first_request_ns is not None or any(s.signum for s in self.signals)
        return self.own_wait >= (SHORTEST_WAIT if signalled else self.promise.stall_limit)

    def stamp(self, at_ns: int) -> str:
        """A moment as people read it: seconds since the routine was called."""
        return f"t{(at_ns - self.origin) / 1e9:+.3f}"

    def named(self, text: str) -> str:
        """A text with the threads as people know them: the routine, contenders by their kind."""
        routine = rf"(?<![\w/.-]){re.escape(self.routine_actor)}(?![\w/.-])"
        return re.sub(routine, "the routine", text).replace("gracekill:", "")

    def since(self, hold: Hold) -> str:
        """Since when a lock was held, and where it was taken; the caller's are held at the call."""
        at_entry = () if self.lock_state is None else self.lock_state.at_entry
        if not hold.traced:
            by = f": {hold.untraced}" if hold.untraced else ""
            return f"since {self.stamp(hold.acquired_ns)}, through a reference not traced{by}"
        before = hold.actor == self.routine_actor and hold.acquired_ns <= self.called_ns
        if before and hold.lock in at_entry:
            return "since the call"
        public = [frame for frame in hold.site if frame.function.rpartition(".")[2][:1] != "_"]
        where = f", taken at {(public or hold.site)[0]}" if hold.site else ""
        return f"since {self.stamp(hold.acquired_ns)}{where}"

    @property
    def killed_ns(self) -> int | None:
        """When the signal that ended the VM was sent, or when the VM died where nobody saw that."""
        found = deadly(self)
        return None if found is None else found.at_ns

    @property
    def dead_before(self) -> bool:
        """The VM had ended before the first call: what became of it is no caller's doing."""
        return self.exit_ns is not None and self.exit_ns < self.origin

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every stop request that reached the VM, oldest first."""
        return requests(self)

    @property
    def grace_given(self) -> float | None:
        """Seconds from the first stop request to the deadly signal; None where either is missing.

        The request counts from when it was sent, where that was seen: a VM on a busy machine may
        take note of it late, and its journal with it.
        """
        killed, first = self.killed_ns, effective(self.requests)
        return None if killed is None or first is None else (killed - first.at_ns) / 1e9

    @property
    def cut_short(self) -> bool:
        """Whether the grace was shorter than ``survive``; False where either is missing."""
        grace, survive = self.grace_given, self.promise.survive
        return grace is not None and survive is not None and grace < survive - TOLERANCE

    @property
    def flush_deadline_ns(self) -> int | None:
        """When ``survive`` is over, counted from the first request; None without one."""
        found = self.requests
        if self.promise.survive is None or not found:
            return None
        return found[0].at_ns + int(self.promise.survive * 1e9)

    @property
    def last_durable(self) -> tuple[int, int] | None:
        """The block that was written last, and when."""
        for entry in reversed(self.journal):
            if entry.event == "block":
                return int(str(entry.fields["index"])), entry.at_ns
        return None
