"""When nothing of this process ran, and when one thread kept the interpreter lock.

A thread naps for 10 ms at a time; a nap that takes more than 100 ms is looked into. A thread that
waits for the interpreter lock wakes up every 5 ms (`sys.getswitchinterval`) to request it, without
holding it: so many context switches in the gap mean that another thread kept the lock, which is the
doing of that thread's code, whether it computes or sleeps in C. Hardly any mean that nothing of the
process ran: it was stopped, frozen, or got no processor. Measured: 80 to 200 switches a second
behind a computation in C, also with 12 busy processes on two processors; 2 in all over 1.5 s after
SIGSTOP.

Not seen: a gap that is shorter, and a single thread that got no processor while others had it.
"""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from pytest_gracekill.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

if sys.platform == "win32":

    def _switches() -> int:
        return 0

    def _processor(_ident: int | None) -> float:
        return 0.0
else:
    import resource
    import time

    def _switches() -> int:
        """How often the calling thread has given up the processor to wait."""
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw

    def _processor(ident: int | None) -> float:
        """Seconds of processor time that a thread has used, or the whole process."""
        if ident is None:
            return time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)
        return time.clock_gettime(time.pthread_getcpuclockid(ident))


#: Seconds of a nap, and from which length on a nap is looked into.
NAP = 0.01
SHORTEST = 0.1

#: A thread that waits for the interpreter lock wakes up more often than once in so many seconds;
#: the stop and the continuation cost the process a few switches of their own.
_ALIVE = 0.1
_OWN_SWITCHES = 3

#: A process that uses less of a processor than that sleeps.
_SLEEPS = 0.1

#: Seconds between two calls of what is looked at meanwhile.
_BETWEEN_LOOKS = 0.05

_JOIN = 2.0


class StandstillWitness:
    """Records the standstills of this process from `__enter__` to `__exit__`, in its own thread.

    ``looks`` are called there every 50 ms, ``ticks`` every 10 ms.

    :ivar gaps: (start, end) of each standstill in CLOCK_MONOTONIC nanoseconds, by time.
    :ivar kept: (start, end) of each time in which the thread that made this witness, or a call in C
        that used no processor, kept the interpreter lock.
    """

    def __init__(self) -> None:
        self.gaps: list[tuple[int, int]] = []
        self.kept: list[tuple[int, int]] = []
        self._ident = threading.get_ident()
        self.looks: list[Callable[[], object]] = []
        self.ticks: list[Callable[[], object]] = []
        self._over = threading.Lock()
        self._watching = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gracekill:pulse-0", daemon=True)

    def __repr__(self) -> str:
        return f"<StandstillWitness: {len(self.gaps)} standstills>"

    def __enter__(self) -> Self:
        self._over.acquire()
        self._thread.start()
        self._watching.wait()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._over.release()
        self._thread.join(_JOIN)

    def _run(self) -> None:
        last, switches = monotonic_ns(), _switches()
        looked = last
        used, own = self._used()
        self._watching.set()
        # a lock rather than an Event: nothing of ours runs between the wake-up and the reading
        over = False
        while not over:
            over = self._over.acquire(timeout=NAP)
            now, switched = monotonic_ns(), _switches()
            used_now, own_now = self._used()
            gap = (now - last) / 1e9
            if gap > SHORTEST:
                if switched - switches < _OWN_SWITCHES + gap / _ALIVE:
                    self.gaps.append((last, now))
                elif own_now - own >= (used_now - used) / 2 or used_now - used < gap * _SLEEPS:
                    self.kept.append((last, now))
            last, switches, used, own = now, switched, used_now, own_now
            for tick in self.ticks:
                tick()
            if now - looked >= _BETWEEN_LOOKS * 1e9:
                looked = now
                for look in self.looks:
                    # what is looked at changes meanwhile
                    with suppress(RuntimeError):
                        look()

    def _used(self) -> tuple[float, float]:
        return _processor(None), _processor(self._ident)


def overlap(gaps: Iterable[tuple[int, int]], since_ns: int, until_ns: int) -> int:
    """Nanoseconds of a span that lie in any of these, each of which may overlap another."""
    total, reached = 0, since_ns
    for start, end in sorted(gaps):
        begin, finish = max(start, reached), min(end, until_ns)
        if finish > begin:
            total += finish - begin
            reached = finish
    return total
