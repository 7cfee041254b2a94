"""The calls of the routine: by the thread that asked for the trial, and by others beside it.

Each caller does what a manager's caller does: it takes the locks, calls, and lets them go. A call
that outlives the budget is cut off, with the stack that it stood in. What a caller saw is kept as
it was; nothing is judged here.
"""

from __future__ import annotations

import ctypes
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_gracekill.errors import UsageError
from pytest_gracekill.witness.sites import awaited_in, current_stack
from pytest_gracekill.witness.watchdog import CutOff, Watchdog

if TYPE_CHECKING:
    import asyncio

    from pytest_gracekill.participants import Participants
    from pytest_gracekill.routine.session import Session
    from pytest_gracekill.witness.history import Frame

#: Seconds that a thread has to come out of a call that has been cut off.
_AFTER_CUT = 5.0


@dataclass(kw_only=True)
class Seen:
    """What one caller saw. ``expired``: it was cut off, and ``returned_ns`` is the moment of that.

    ``alive`` is whether the VM ran when the call returned (or was cut off).
    """

    actor: str
    result: object = None
    error: Exception | None = None
    called_ns: int = 0
    returned_ns: int = 0
    expired: bool = False
    hung_in: tuple[Frame, ...] = ()
    at_entry: tuple[str, ...] = ()
    at_return: tuple[str, ...] = ()
    alive: bool = False
    done: threading.Event = field(default_factory=threading.Event)

    def __str__(self) -> str:
        return f"{self.actor}: {'cut off' if self.expired else self.error or self.result}"


class Callers:
    """All callers of one trial; ``free`` ends everything that they may wait for."""

    def __init__(self, session: Session, who: Participants, *, number: int, budget: float) -> None:
        self._session = session
        self._who = who
        self._budget = budget
        first = threading.current_thread().name
        names = [first, *(f"gracekill:caller-{number}" for number in range(2, number + 1))]
        self.seen = [Seen(actor=name) for name in names]
        self._misuse: UsageError | None = None
        self._alive_at_cut = False
        self._tasks: list[asyncio.Task[None]] = []
        self._stood_in: list[tuple[Frame, ...]] = []

    def perform(self) -> list[Seen]:
        """Make the calls; returns when all have ended or were cut off.

        :raises UsageError: the routine cannot be called so.
        """
        if self._session.asynchronous:
            self._in_loop()
        else:
            self._in_threads()
        self._who.recorder.exempt.add(threading.get_ident())
        if self._misuse is not None:
            raise self._misuse
        return self.seen

    # -- threads

    def _in_threads(self) -> None:
        first, *others = self.seen
        threads = [
            threading.Thread(target=self._beside, args=(seen,), name=seen.actor, daemon=True)
            for seen in others
        ]
        first.at_entry = self._who.take()
        watchdog = Watchdog(self._budget, self._free)
        first.called_ns = time.monotonic_ns()
        self._who.history.origin_ns = first.called_ns
        for thread in threads:
            thread.start()
        self._note("call", first, first.called_ns)
        with watchdog:
            self._call(first)
        self._returned(first, watchdog)
        deadline = first.called_ns / 1e9 + self._budget
        for seen, thread in zip(others, threads, strict=True):
            self._join(seen, thread, deadline)

    def _beside(self, seen: Seen) -> None:
        try:
            seen.at_entry = self._who.take()
            seen.called_ns = time.monotonic_ns()
            self._note("call", seen, seen.called_ns)
            self._call(seen)
            self._returned(seen, None)
        except CutOff:
            pass  # it was written off already, by who has sent this
        finally:
            self._who.let_go()
            seen.done.set()

    def _call(self, seen: Seen) -> None:
        try:
            seen.result = self._session.call()
        except UsageError as error:
            self._misuse = error
        except Exception as raised:  # noqa: BLE001 - raising is one way to report a failure
            seen.error = raised

    def _returned(self, seen: Seen, watchdog: Watchdog | None) -> None:
        seen.returned_ns = time.monotonic_ns()
        self._note("return", seen, seen.returned_ns)
        if watchdog is not None and watchdog.expired:
            seen.expired, seen.alive = True, self._alive_at_cut
            # a command stands somewhere that cannot be seen from here
            external = self._session.adapted.kind == "external"
            seen.hung_in = () if external else watchdog.hung_in
        else:
            seen.alive = not self._who.vm_ended_within_tolerance()
        seen.at_return = self._who.held()
        self._who.let_go()

    def _join(self, seen: Seen, thread: threading.Thread, deadline: float) -> None:
        if seen.done.wait(max(deadline - time.monotonic(), 0.0)):
            thread.join(_AFTER_CUT)
            return
        ident = thread.ident
        assert ident is not None
        seen.hung_in = current_stack(ident)
        seen.expired = True
        self._free()
        seen.returned_ns = time.monotonic_ns()
        seen.called_ns = seen.called_ns or seen.returned_ns
        seen.alive = self._alive_at_cut
        if not seen.done.wait(_AFTER_CUT / 5):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(ident), ctypes.py_object(CutOff)
            )
            seen.done.wait(_AFTER_CUT)

    # -- an event loop

    def _in_loop(self) -> None:
        from pytest_gracekill.witness.event_loop import conduct  # noqa: PLC0415 - brings asyncio

        first = self.seen[0]
        watchdog = Watchdog(self._budget, self._free)

        def begin() -> None:
            first.called_ns = time.monotonic_ns()
            self._who.history.origin_ns = first.called_ns

        async def call() -> None:
            import asyncio  # noqa: PLC0415 - see above

            self._tasks = [asyncio.create_task(self._task(seen)) for seen in self.seen]
            await asyncio.gather(*self._tasks)

        first.at_entry = self._who.take()
        with watchdog:
            self._session.runner.run(conduct(call, contenders=self._who.tasks(), on_start=begin))
        if watchdog.expired:
            for seen in self.seen:
                if not seen.done.is_set():
                    seen.called_ns = seen.called_ns or first.called_ns
                    self._returned(seen, watchdog)
            for seen, stack in zip(self.seen, self._stood_in, strict=False):
                seen.hung_in = stack or seen.hung_in
        self._who.let_go()

    async def _task(self, seen: Seen) -> None:
        seen.called_ns = time.monotonic_ns()
        self._note("call", seen, seen.called_ns)
        try:
            seen.result = await self._session.call_async()
        except UsageError as error:
            self._misuse = error
        except Exception as raised:  # noqa: BLE001 - raising is one way to report a failure
            seen.error = raised
        self._returned(seen, None)
        seen.done.set()

    # -- both

    def _note(self, event: str, seen: Seen, at_ns: int) -> None:
        self._who.history.record(event, seen.actor, at_ns)

    def _free(self) -> None:
        """The watchdog's: end everything that the calls may wait for."""
        self._who.recorder.exempt.add(threading.get_ident())
        self._alive_at_cut = self._who.vm_alive()
        # before anything wakes them up
        self._stood_in = [awaited_in(task.get_coro()) for task in self._tasks]
        self._session.free()
        self._who.kill_vm()
