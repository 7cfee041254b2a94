"""Named points of a trial, at which something else is done while the routine is held.

A window of microseconds is met by luck; here it is opened for as long as it takes. The routine's
thread is held at its point until the act is done, or stands before a lock that the routine holds.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Literal

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

#: Seconds for an act, and what is long enough for a thread to stand before a lock.
_ACT = 5.0
_STANDS = 0.02
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
        self._threads: list[threading.Thread] = []
        tracer.on_step = self._step

    def signalled(self) -> None:
        """Say that a signal was sent by the calling thread."""
        if threading.get_ident() == self._routine:
            self._play("first signal")

    def end(self, within: float) -> None:
        """Play nothing any more, and wait for what plays; whoever stands still is left behind."""
        self._tracer.on_step = None
        self._acts.clear()
        deadline = time.monotonic() + within
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))

    @property
    def missed(self) -> tuple[str, ...]:
        """The points that the routine has not come to."""
        return tuple(self._acts)

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
        actor = f"gracekill:{name}"
        self._history.record("point", threading.current_thread().name, point=point, act=name)

        def play() -> None:
            try:
                act()
            except Exception as error:  # noqa: BLE001 - what a flaw makes of it is evidence
                self._history.record("raised", actor, error=f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=play, name=actor, daemon=True)
        self._threads.append(thread)
        thread.start()
        deadline = time.monotonic() + _ACT
        while thread.is_alive() and time.monotonic() < deadline and not self._stands(thread):
            time.sleep(_LOOK)

    def _stands(self, thread: threading.Thread) -> bool:
        since = self._tracer.waits_since(thread.ident)
        return since is not None and time.monotonic_ns() - since > _STANDS * 1e9
