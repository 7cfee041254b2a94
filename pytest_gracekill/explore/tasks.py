"""A thread of an exploration, as its scheduler sees it: where it stands, and what it does next.

Between two of its operations a task runs alone. What it announces is the operation that comes next:
who may perform it, and until when it waits for that.
"""

from __future__ import annotations

import _thread
from typing import TYPE_CHECKING, TypeAlias

from pytest_gracekill.errors import UsageError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from pytest_gracekill.explore.locks import Lock
    from pytest_gracekill.explore.run import Run
    from pytest_gracekill.explore.workers import Worker
    from pytest_gracekill.witness.sites import Site

#: When an announced operation can be performed; None: at once.
Ready: TypeAlias = "Callable[[], bool] | None"

#: The index of the choice that time passes, beside those of the tasks.
TIME = -1


class Abandoned(BaseException):
    """Raised in every task of a schedule that has been decided."""


class Task:
    """One thread of one schedule.

    :ivar deadline: until when it waits for its operation to be ready, in virtual nanoseconds.
    :ivar daemon: whether nobody waits for its end.
    :ivar timed: whether the operation has to do with the clock, so that its order beside a step of
        time matters.
    :ivar mask: a bit for each object that the operation changes; ``reads``: that it looks at.
    :ivar awaits: the condition that it is to be notified on.
    :ivar waits_for: the lock that it waits for; ``since`` when it began to, ``order`` as how many
        announcements there had been.
    """

    __slots__ = (
        "alive_seen",
        "awaits",
        "bit",
        "body",
        "daemon",
        "deadline",
        "error",
        "held",
        "index",
        "kind",
        "made",
        "mask",
        "name",
        "order",
        "raised_ns",
        "reads",
        "ready",
        "result",
        "run",
        "since",
        "site",
        "thread",
        "timed",
        "waits_for",
        "what",
        "worker",
    )

    def __init__(self, run: Run, index: int, name: str, body: Callable[[], object]) -> None:
        self.run = run
        self.index = index
        self.name = name
        self.body = body
        self.worker: Worker | None = None
        self.thread: threading.Thread | None = None
        self.daemon = False
        self.kind = "begins"
        self.what: object = ""
        #: How many objects it has made, itself not included.
        self.made = 0
        #: Stands for the task itself: whoever joins it waits for its last operation.
        self.bit = 0
        self.mask = 0
        self.reads = 0
        self.timed = False
        self.ready: Ready = None
        self.deadline: int | None = None
        self.waits_for: Lock | None = None
        self.awaits: object = None
        self.since = 0
        self.order = 0
        self.site: Site = ()
        self.held: list[Lock] = []
        self.result: object = None
        self.error: BaseException | None = None
        self.raised_ns: int | None = None
        #: Whether the VM was alive when this task last looked at it, by the VM's number.
        self.alive_seen: dict[int, bool] = {}

    def touch(self, mask: int) -> None:
        """Say that what it does now changes an object, beside that of the operation."""
        self.mask |= mask

    def look(self, mask: int) -> None:
        """Say that it looks at one."""
        self.reads |= mask

    def __repr__(self) -> str:
        return f"<Task {self.name}: {self.kind} {self.what}>"


def refused(what: str) -> UsageError:
    """The error for what is not simulated; it is told, whatever the program makes of it."""
    error = UsageError(what)
    task = current()
    if task is not None and task.run.refused is None:
        task.run.refused = error
    return error


#: The tasks that run now, by the identity of their threads.
TASKS: dict[int, Task] = {}

# asked for a hundred times in a schedule
_task_of = TASKS.get
_get_ident = _thread.get_ident


def current() -> Task | None:
    """The task that calls; None in a thread that has nothing to do with an exploration."""
    return _task_of(_get_ident())
