"""What holds up a schedule in which nobody can go on: the same deadlocks as in a trial."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gracekill.errors import UsageError
from pytest_gracekill.passing import passes_through
from pytest_gracekill.witness.dead_end import NotifierGone, OwnerEnded
from pytest_gracekill.witness.wait_graph import Deadlock, DeadlockStep

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pytest_gracekill.explore.run import Run, Standing
    from pytest_gracekill.explore.tasks import Task
    from pytest_gracekill.witness.dead_end import AnyDeadlock

#: The wait of a condition, whose notifier is what is missing.
WAKES = "wakes up from"

_HERE = str(Path(__file__).parent)


def deadlock_in(run: Run, benign: Collection[str] = ()) -> AnyDeadlock | None:
    """Why nobody can go on; None when somebody could, or waits for no other thread.

    :param benign: the names of tasks that may wait for ever.
    """
    if run.outcome != "stuck":
        return None
    left = [task for task in run.left if task.name not in benign]
    cycle = _cycle(run, left)
    if cycle:
        return _deadlock(run, cycle)
    for task in left:
        standing = run.standing[task.index]
        if standing.lock is not None and standing.owner not in run.left:
            return _owner_ended(run, task, standing)
    for task in left:
        standing = run.standing[task.index]
        if standing.awaits is not None:
            return _notifier_gone(run, task, standing)
    return None


def raise_not_simulated(tasks: Iterable[Task], more: Iterable[BaseException | None] = ()) -> None:
    """Raise what a task was told for asking for what is not simulated: that is no finding.

    :raises UsageError: the one that it was told.
    :raises Exception: what ends the run of pytest, such as pytest.exit().
    """
    for error in (*(task.error for task in tasks), *more):
        if error is not None and type(error) is not KeyboardInterrupt and passes_through(error):
            raise error
        if isinstance(error, UsageError) and _is_of_ours(error):
            raise error.with_traceback(None)


def _is_of_ours(error: BaseException) -> bool:
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_HERE)


def _cycle(run: Run, left: list[Task]) -> list[Task]:
    """Tasks that wait for each other's locks, from the one that closed the circle on."""
    for task in left:
        chain: list[Task] = []
        current: Task | None = task
        while current is not None and current not in chain:
            chain.append(current)
            standing = run.standing.get(current.index)
            current = None if standing is None else standing.owner
        if current is not None:
            ring = chain[chain.index(current) :]
            last = max(ring, key=lambda member: run.standing[member.index].order)
            at = ring.index(last)
            return [*ring[at:], *ring[:at]]
    return []


def _deadlock(run: Run, ring: list[Task]) -> Deadlock:
    steps = []
    for before, task in zip((ring[-1], *ring[:-1]), ring, strict=True):
        wanted, mine = run.standing[before.index], run.standing[task.index]
        assert wanted.lock is not None
        assert mine.lock is not None
        steps.append(
            DeadlockStep(
                thread=task.name,
                # what this thread holds is what the one before it waits for
                holds=wanted.lock.name,
                held_since_ns=wanted.held_since,
                taken_at=wanted.taken_at,
                waits_for=mine.lock.name,
                waiting_since_ns=mine.since,
                waiting_at=mine.stack,
            )
        )
    return Deadlock(steps=tuple(steps), at_ns=run.now)


def _owner_ended(run: Run, task: Task, standing: Standing) -> OwnerEnded:
    assert standing.lock is not None
    return OwnerEnded(
        lock=standing.lock.name,
        owner="nobody" if standing.owner is None else standing.owner.name,
        held_since_ns=standing.held_since,
        taken_at=standing.taken_at,
        thread=task.name,
        waiting_since_ns=standing.since,
        waiting_at=standing.stack,
        at_ns=run.now,
    )


def _notifier_gone(run: Run, task: Task, standing: Standing) -> NotifierGone:
    others = [other for other in run.left if other is not task]
    return NotifierGone(
        condition=str(getattr(standing.awaits, "name", standing.awaits)),
        thread=task.name,
        waiting_since_ns=run.now,
        waiting_at=standing.stack,
        blocked=tuple(
            f"{other.name} {other_standing.kind} {other_standing.what}".strip()
            for other in others
            for other_standing in (run.standing[other.index],)
        ),
        ended=tuple(other.name for other in run.tasks if other not in run.left),
        at_ns=run.now,
        doing="" if standing.kind == WAKES else f"{standing.kind} {standing.what}".strip(),
    )
