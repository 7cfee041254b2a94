"""Real threads that run the tasks, one at a time: each stands at its gate until it gets the baton.

Threads are kept from schedule to schedule: to start one costs as much as ten steps.
"""

from __future__ import annotations

import _thread
import contextvars
import sys
import threading
from typing import TYPE_CHECKING

from pytest_gracekill.explore.tasks import TASKS, Abandoned

if TYPE_CHECKING:
    from pytest_gracekill.explore.tasks import Task

# bound before anything is replaced: these are the real ones, whoever asks
_allocate_lock = _thread.allocate_lock
_get_ident = _thread.get_ident


class Worker:
    """One thread; ``gate`` is open while its task has the baton."""

    def __init__(self, number: int) -> None:
        self.gate = _allocate_lock()
        self.gate.acquire()
        self.task: Task | None = None
        self.ident = 0
        self._end = False
        # a daemon: one that is stuck in a real lock must not keep the interpreter from ending
        self.thread = threading.Thread(
            target=self._loop, name=f"gracekill:task-{number}", daemon=True
        )

    def start(self) -> None:
        self.thread.start()

    def end(self) -> None:
        """Let the thread end; it has to stand at its gate."""
        self._end = True
        self.gate.release()

    def _loop(self) -> None:
        self.ident = _get_ident()
        gate = self.gate
        while True:
            gate.acquire()
            if self._end:
                return
            task = self.task
            assert task is not None
            run = task.run
            if not run.abandoning:
                TASKS[self.ident] = task
                try:
                    if run.watch is not None:
                        sys.setprofile(run.watch)
                    # what a thread before it has set is not its own
                    for thread_local in run.thread_locals:
                        vars(thread_local).clear()
                    task.result = contextvars.Context().run(task.body)
                except Abandoned as end:
                    # most of its frames hold it, as it holds them
                    end.__traceback__ = None
                except BaseException as error:  # noqa: BLE001 - whatever it is, it is evidence
                    if not run.abandoning:  # what comes of being told to end is none
                        task.error, task.raised_ns = error, run.now
                finally:
                    sys.setprofile(None)
                    TASKS.pop(self.ident, None)
            self.task = None
            if not run.ended(task):
                return


class Pool:
    """What the schedules of one exploration share: threads, which end with it, and bits."""

    def __init__(self) -> None:
        self._all: list[Worker] = []
        self._idle: list[Worker] = []
        self._bits: dict[tuple[int, int], int] = {}

    def bit_of(self, maker: int, number: int) -> int:
        """The bit of the n-th object that a task has made; it is compared between schedules."""
        return self._bits.setdefault((maker, number), 1 << len(self._bits))

    def take(self, task: Task) -> Worker:
        """A thread for a task; it stands at its gate."""
        if self._idle:
            worker = self._idle.pop()
        else:
            # this thread may be a task itself: what it makes now is real
            ident = _get_ident()
            caller = TASKS.pop(ident, None)
            try:
                worker = Worker(len(self._all) + 1)
                self._all.append(worker)
                worker.start()
            finally:
                if caller is not None:
                    TASKS[ident] = caller
        worker.task = task
        return worker

    def give_back(self, worker: Worker) -> None:
        """The task of this thread has ended."""
        self._idle.append(worker)

    def close(self, within: float) -> None:
        """Let every thread end that stands at its gate, and wait for that."""
        for worker in self._idle:
            worker.end()
        for worker in self._idle:
            worker.thread.join(within)
        self._idle.clear()
