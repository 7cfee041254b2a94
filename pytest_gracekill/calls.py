"""The calls of the routine: by the thread that asked for the trial, and by others beside it.

Each caller does what a manager's caller does: it takes the locks, calls, and lets them go. A call
that outlives the budget is cut off, with the stack that it stood in. What a caller saw is kept as
it was; nothing is judged here.

A thread that is cut off may be interrupted at any line, also while it holds a lock of the standard
library's. So nothing here that has to go on waits for such a lock: who settles a call first is
decided by one step of a dict, and an end of a thread is waited for by joining it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gracekill import clock
from pytest_gracekill.errors import UsageError, WardenLostError
from pytest_gracekill.legible import error_text, text_of
from pytest_gracekill.participants import CALLER
from pytest_gracekill.passing import passes_through
from pytest_gracekill.witness.cut_off import CutOff, Interruptible
from pytest_gracekill.witness.debugger import Budget
from pytest_gracekill.witness.locks import DeadlockDetected
from pytest_gracekill.witness.sites import awaited_in, current_stack, stacks_beside
from pytest_gracekill.witness.standing import Standing
from pytest_gracekill.witness.watchdog import Watchdog

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from pytest_gracekill.participants import Participants
    from pytest_gracekill.routine.session import Session
    from pytest_gracekill.witness.history import Frame
    from pytest_gracekill.witness.process_tree import CommandSeen

#: Seconds that what was cut off has to end by itself, now that the VM is gone, ...
_AFTER_KILL = 1.0
#: ... and to come out of an interrupt, which is repeated meanwhile.
_AFTER_CUT = 5.0
_BETWEEN_INTERRUPTS = 0.05


@dataclass(kw_only=True)
class Seen:
    """What one caller saw. ``expired``: it was cut off, and ``returned_ns`` is the moment of that.

    ``alive`` is whether the VM ran when the call returned (or was cut off), with some tolerance;
    ``ended`` whether it had ended exactly then, ``knew`` whether the routine had reaped it by then.
    ``shown``: the VM had told by then that it is there; else it is looked at once more when it has.
    """

    actor: str
    result: object = None
    error: BaseException | None = None
    called_ns: int = 0
    returned_ns: int = 0
    expired: bool = False
    hung_in: tuple[Frame, ...] = ()
    hung_command: CommandSeen | None = None
    at_entry: tuple[str, ...] = ()
    at_return: tuple[str, ...] = ()
    alive: bool = False
    ended: bool = False
    knew: bool = False
    shown: bool = True

    def __str__(self) -> str:
        if self.expired:
            return f"{self.actor}: cut off"
        told = text_of(self.result) if self.error is None else error_text(self.error)
        return f"{self.actor}: {told}"


class Callers:
    """All callers of one trial.

    ``budget`` is what each call has, in seconds; ``latest`` the CLOCK_MONOTONIC second at which all
    must have ended, also one that got the locks late.
    """

    def __init__(
        self, session: Session, who: Participants, *, number: int, budget: float, latest: float
    ) -> None:
        self._session = session
        self._who = who
        self._budget = budget
        self._latest = latest
        first = threading.current_thread().name
        self._actors = [first, *(f"{CALLER}{n}" for n in range(2, number + 1))]
        self._threads: dict[str, threading.Thread] = {}
        self._interruptible = {actor: Interruptible() for actor in self._actors[1:]}
        self._tasks: list[asyncio.Task[None]] = []
        # when each was called, and what it saw; both are written once
        self._called: dict[str, int] = {}
        self._settled: dict[str, Seen] = {}
        self._misuse: UsageError | WardenLostError | None = None
        # what ends the test or the run, raised in another thread
        self._passing: BaseException | None = None
        #: Where the other threads stood when a call was cut off, by their names.
        self.beside: tuple[tuple[str, tuple[Frame, ...]], ...] = ()

    def perform(self) -> list[Seen]:
        """Make the calls; returns when all have ended or were cut off, in the callers' order.

        :raises UsageError: the routine cannot be called so.
        :raises WardenLostError: somebody has killed what watches over its command.
        """
        if self._session.asynchronous:
            self._in_loop()
        elif self._who.loop_contenders:
            name = self._who.loop_contenders[0].name
            raise UsageError(
                f"contend={name}: a coroutine function runs in the event loop of an async routine,"
                f" and {self._session.adapted.name} has none"
            )
        else:
            self._in_threads()
        self._who.recorder.exempt.add(threading.get_ident())
        if self._passing is not None:
            raise self._passing
        if self._misuse is not None:
            raise self._misuse
        self._cut(self._actors)  # nobody is left to say what became of them
        return [self._settled[actor] for actor in self._actors]

    # -- threads

    def _in_threads(self) -> None:
        first, *others = self._actors
        for actor in others:
            self._threads[actor] = threading.Thread(
                target=self._beside, args=(actor,), name=actor, daemon=True
            )
        at_entry = self._who.take()
        standing = self._standing()
        watchdog = Watchdog(self._budget, self._cut_all, self._looking(standing))
        self._begin(first)
        try:
            for thread in self._threads.values():
                thread.start()
            seen = Seen(actor=first, called_ns=self._called[first], at_entry=at_entry)
            with watchdog:
                self._call(seen)
            self._returned(seen)
            standing.end()
            if watchdog.expired:
                external = self._session.adapted.kind == "external"
                self._settled[first].hung_in = () if external else watchdog.hung_in
            self._who.let_go()
            for actor in others:
                self._wait_for(actor)
        except BaseException:
            # the user's interrupt, say: nobody goes on behind the trial's back
            self._end_all()
            raise

    def _beside(self, actor: str) -> None:
        seen = Seen(actor=actor)

        def perform() -> None:
            seen.at_entry = self._who.take()
            seen.called_ns = self._begin(actor)
            self._call(seen)
            self._returned(seen)

        try:
            # what is cut off has been written off by then
            self._interruptible[actor].run(perform)
        except DeadlockDetected as found:  # it never came to its call
            seen.called_ns = seen.returned_ns = clock.monotonic_ns()
            seen.error = found
            self._settled.setdefault(actor, seen)
        finally:
            self._who.let_go()

    def _begin(self, actor: str) -> int:
        now = clock.monotonic_ns()
        self._called[actor] = now
        if actor == self._actors[0]:
            self._who.history.origin_ns = now
        self._who.history.record("call", actor, now)
        return now

    def _call(self, seen: Seen) -> None:
        try:
            seen.result = self._session.call()
        except (UsageError, WardenLostError) as error:
            self._misuse = error
        except CutOff:
            raise
        except BaseException as raised:
            # whatever else it is, raising is one way to report a failure
            seen.error = raised
            if passes_through(raised):
                if seen.actor == self._actors[0]:
                    raise
                if type(raised) is not KeyboardInterrupt:  # the user's comes to the main thread
                    self._passing = raised

    def _returned(self, seen: Seen) -> None:
        # before anything else: what comes later is none that the routine could know of
        seen.ended, seen.knew = self._who.end_as_seen()
        seen.returned_ns = clock.monotonic_ns()
        if seen.actor == self._actors[0]:
            # the locks are let go for it from here on: that is no point of the routine's
            self._who.returned()
        self._who.history.record("return", seen.actor, seen.returned_ns)
        seen.shown = self._who.started_vm is not None
        seen.alive = not self._who.vm_ended_within_tolerance()
        seen.at_return = self._who.held()
        self._settled.setdefault(seen.actor, seen)

    def _wait_for(self, actor: str) -> None:
        """Wait for a thread; who got the locks late has its budget from then on."""
        thread = self._threads[actor]
        allowed, own = Budget(self._latest - clock.monotonic()), None
        while thread.is_alive() and actor not in self._settled:
            since = self._called.get(actor)
            if own is None and since is not None:
                own = Budget(since / 1e9 + self._budget - clock.monotonic())
            left = min(budget.left() for budget in (allowed, own) if budget is not None)
            if left <= 0:
                self._cut([actor])
                break
            thread.join(min(left, self._budget / 10))
        self._end([actor])

    def _end_all(self) -> None:
        threads = [actor for actor, thread in self._threads.items() if thread.ident is not None]
        self._cut(threads)
        self._end(threads)

    def _end(self, actors: Sequence[str]) -> None:
        """Have these threads end: by themselves, or interrupted."""
        threads = [self._threads[actor] for actor in actors]
        interrupt_from = clock.monotonic() + _AFTER_KILL
        until = interrupt_from + _AFTER_CUT
        for actor, thread in zip(actors, threads, strict=True):
            while thread.is_alive() and clock.monotonic() < until:
                if clock.monotonic() > interrupt_from and self._settled[actor].expired:
                    self._interruptible[actor].interrupt()
                thread.join(_BETWEEN_INTERRUPTS)

    # -- an event loop

    def _in_loop(self) -> None:
        import asyncio  # noqa: PLC0415 - see below

        from pytest_gracekill.witness.event_loop import (  # noqa: PLC0415 - brings asyncio
            clear,
            conduct,
            watched,
        )

        first, runner = self._actors[0], self._session.runner
        standing = self._standing()
        watchdog = Watchdog(self._budget, self._cut_all, self._looking(standing))

        async def call() -> None:
            import asyncio  # noqa: PLC0415 - see above

            self._tasks = [asyncio.create_task(self._task(actor)) for actor in self._actors]
            await asyncio.gather(*self._tasks)

        def begin() -> None:
            if watchdog.expired:
                raise CutOff  # a contender has kept the loop for all of the budget
            self._begin(first)

        contenders = self._who.tasks()
        at_entry = self._who.take()
        with watched(contenders), watchdog:
            try:
                runner.run(
                    conduct(
                        call,
                        contenders=contenders,
                        on_start=begin,
                        patience=self._who.patience,
                    )
                )
            except asyncio.CancelledError as error:
                # the routine has cancelled every task; the user's interrupt is none any more here
                if not self._tasks:
                    raise
                self._were_cancelled(error)
        standing.end()
        if watchdog.expired:
            self._cut(self._actors)  # also those that had not even begun
            for contender in contenders:
                contender.stop()
            with Watchdog(_AFTER_CUT, lambda: None):
                runner.run(clear())
            self._check_called(contenders[0].name, watchdog.hung_in)
        # all of them, and the contenders beside them, are one thread: a lock that is held now
        # was left so by one of them
        at_return = self._who.held()
        for seen in self._settled.values():
            seen.at_entry, seen.at_return = at_entry, at_return
            if seen.expired:
                seen.hung_in = seen.hung_in or watchdog.hung_in
        self._who.let_go()

    def _check_called(self, contender: str, hung_in: Sequence[Frame]) -> None:
        """:raises UsageError: a contender has kept the loop, and the routine was never called."""
        if self._actors[0] not in self._called:
            stood = f", in {hung_in[0]}" if hung_in else ""
            raise UsageError(
                f"contend={contender}: the event loop stood still for {self._budget:.3g} s before"
                f" the routine was called{stood}; a contender in the loop awaits what takes its"
                " time"
            )

    async def _task(self, actor: str) -> None:
        called_ns = self._called.get(actor) or self._begin(actor)
        seen = Seen(actor=actor, called_ns=called_ns)
        try:
            seen.result = await self._session.call_async()
        except (UsageError, WardenLostError) as error:
            self._misuse = error
        except CutOff:
            raise
        except BaseException as raised:
            if passes_through(raised):
                raise
            # a cancellation, too: that of the user's interrupt ends the loop all the same
            seen.error = raised
        self._returned(seen)

    def _were_cancelled(self, error: BaseException) -> None:
        """Settle the calls whose own tasks the routine has cancelled before they began."""
        for actor in self._actors:
            if actor not in self._settled:
                called_ns = self._called.get(actor) or self._begin(actor)
                self._returned(Seen(actor=actor, called_ns=called_ns, error=error))

    def _looking(self, standing: Standing) -> Callable[[], None]:
        """What is looked at again and again while the calls last."""

        def look() -> None:
            standing.look()
            self._who.look_for_pending()

        return look

    def _standing(self) -> Standing:
        """Who looks where the first call stands; a command stands where it cannot be seen."""
        first, ident = self._actors[0], threading.get_ident()
        external = self._session.adapted.kind == "external"

        def where() -> tuple[Frame, ...]:
            if external or first not in self._called or first in self._settled:
                return ()
            return self._stands_in(first) if self._tasks else current_stack(ident)

        return Standing(self._who.history, first, where, ident)

    # -- the cut

    def _cut_all(self) -> None:
        """Write off every call that has not returned; one that waits for the locks goes on."""
        self._cut([self._actors[0], *self._called])

    def _cut(self, actors: Sequence[str]) -> None:
        """Write these off unless they have returned, and end everything that they may wait for."""
        open_ = [actor for actor in dict.fromkeys(actors) if actor not in self._settled]
        if not open_:
            return
        self._who.recorder.exempt.add(threading.get_ident())
        shown = self._who.started_vm is not None
        now, alive = clock.monotonic_ns(), self._who.vm_alive()
        # before anything wakes them up
        self.beside = self.beside or stacks_beside(open_)
        stood_in = {actor: self._stands_in(actor) for actor in open_}
        commands = {actor: self._session.command_seen(actor) for actor in open_}
        for actor in open_:
            self._settled.setdefault(
                actor,
                Seen(
                    actor=actor,
                    called_ns=self._called.get(actor, now),
                    returned_ns=now,
                    expired=True,
                    hung_in=stood_in[actor],
                    hung_command=commands[actor],
                    alive=alive,
                    shown=shown,
                ),
            )
        self._session.free()
        self._who.kill_vm()

    def _stands_in(self, actor: str) -> tuple[Frame, ...]:
        if self._session.adapted.kind == "external":
            return ()  # the command stands somewhere that cannot be seen from here
        if self._tasks:
            return awaited_in(self._tasks[self._actors.index(actor)].get_coro())
        ident = self._threads[actor].ident if actor in self._threads else None
        return () if ident is None else current_stack(ident)
