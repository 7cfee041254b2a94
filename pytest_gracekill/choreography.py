"""Named points of a trial, at which something else is done while the routine is held.

A window of microseconds is met by luck; here it is opened for as long as it takes. The routine's
thread is held at its point until the act is done, or stands before a lock that the routine holds,
directly or behind others. What it was held for is on record, and does not count against it.

The points are met between the call and the return only, and by the routine's first caller.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Literal

from pytest_gracekill import clock
from pytest_gracekill.legible import error_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_gracekill.witness.history import History
    from pytest_gracekill.witness.locks import LockTracer, TracedLock

Point = Literal["first signal", "first unlock", "unlocked", "exit", "before the relock"]

#: What each point is.
POINTS: dict[Point, str] = {
    "first signal": "the routine has sent its first signal",
    "first unlock": "the routine has let go of a lock for the first time",
    "unlocked": "the routine holds no lock any more, for the first time",
    "exit": "the VM has exited; the routine is held when it asks for a lock after that",
    "before the relock": "the routine asks for a lock again after it has let one go",
}

#: Seconds for an act, and between two looks at it.
_ACT = 5.0
_LOOK = 0.001


class Choreography:
    """The acts of one trial by their points, each played once."""

    def __init__(
        self,
        acts: Mapping[Point, tuple[str, Callable[[], object]]],
        *,
        routine: int,
        tracer: LockTracer,
        history: History,
        vm_alive: Callable[[], bool],
    ) -> None:
        self._acts = dict(acts)
        self._routine = routine
        self._tracer = tracer
        self._history = history
        self._vm_alive = vm_alive
        self._has_unlocked = False
        self._playing: dict[threading.Thread, str] = {}
        #: From when until when the routine was held, in monotonic nanoseconds.
        self.pauses: list[tuple[int, int]] = []
        #: The names of the threads that have played an act.
        self.actors: set[str] = set()
        #: What has become of an act that did not do what it was to do, one line each.
        self.failed: list[str] = []
        #: The points that the routine has not come to.
        self.missed: tuple[Point, ...] = ()
        tracer.on_step = self._step

    def after_signal(self) -> Callable[[], None] | None:
        """What the calling thread has to do when the signal that it sends now has been sent."""
        if "first signal" not in self._acts or threading.get_ident() != self._routine:
            return None
        return lambda: self._play("first signal")

    def close(self) -> None:
        """The routine has returned: no point is met any more."""
        if self._tracer.on_step is not None:
            self._tracer.on_step = None
            self.missed = tuple(self._acts)
        self._acts.clear()

    def end(self, within: float) -> None:
        """Wait for what plays; whoever stands still is left behind, and told."""
        self.close()
        deadline = clock.monotonic() + within
        while self._playing:
            thread, told = self._playing.popitem()
            thread.join(max(deadline - clock.monotonic(), 0.0))
            if thread.is_alive():
                self.failed.append(f"{told} did not end")

    def _step(self, step: str, _lock: TracedLock) -> None:
        if threading.get_ident() != self._routine:
            return
        if step == "release":
            self._has_unlocked = True
            self._play("first unlock")
            if not self._tracer.held_by(self._routine):
                self._play("unlocked")
        elif self._has_unlocked:
            if not self._vm_alive():
                self._play("exit")
            self._play("before the relock")

    def _play(self, point: Point) -> None:
        if point not in self._acts:
            return
        name, act = self._acts.pop(point)
        actor, told = f"gracekill:{name}", f"{name} ({point})"
        self._history.record("point", threading.current_thread().name, point=point, act=name)

        def play() -> None:
            try:
                act()
            except BaseException as error:  # noqa: BLE001 - what a flaw makes of it is evidence
                raised = error_text(error)
                self._history.record("raised", actor, error=raised)
                self.failed.append(f"{told} raised {raised}")

        thread = threading.Thread(target=play, name=actor, daemon=True)
        self._playing[thread] = told
        self.actors.add(actor)
        began = clock.monotonic_ns()
        thread.start()
        try:
            self._hold(thread)
        finally:
            self.pauses.append((began, clock.monotonic_ns()))

    def _hold(self, thread: threading.Thread) -> None:
        deadline = clock.monotonic() + _ACT
        before: tuple[object, ...] | None = None
        while thread.is_alive() and clock.monotonic() < deadline:
            # the routine, too, would have to wait here, for one that a contender holds: only its
            # own locks are what the act cannot get, and the same twice since looks are not atomic
            chain = self._tracer.chain_to(self._routine, thread.ident)
            if chain is not None and before is not None and _same(chain, before):
                return
            before = chain
            # not a join: CPython 3.11 takes a thread for ended whose join was interrupted
            time.sleep(_LOOK)


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
