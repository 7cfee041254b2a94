"""The model of a trial as an exploration has it: what is done to a domain is seen by the search."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from pytest_gracekill.explore.tasks import current
from pytest_gracekill.routine.domain import Domain
from pytest_gracekill.witness.identity import CleanUp, FreedUse
from pytest_gracekill.witness.sites import Frame, current_stack

if TYPE_CHECKING:
    from pytest_gracekill.explore.run import Run
    from pytest_gracekill.routine.incarnation import Incarnation
    from pytest_gracekill.routine.owned_lock import Lockable

#: What changes a domain.
_CHANGES = ("begin()", "begin_job()", "end_job()", "clean_up()", "tear_down()")
#: What everybody may do without the domain's lock.
_UNGUARDED = ("lock", "ref()", "unref()")


class ExploredDomain(Domain):
    """A domain of the model whose uses are seen by the search.

    Under its lock they belong to the operation in which they are; whatever is done without the lock
    is an operation of its own, before which others may come.
    """

    __slots__ = ("_being_destroyed", "_bit", "_job")

    def __init__(self, name: str, lock: Lockable | None, notices: Notices) -> None:
        self._bit = notices.run.new_bit()
        super().__init__(name, lock, notices)
        # one step at a time: nothing can come between
        self._guard = nullcontext()  # type: ignore[assignment]

    def _used(self, what: str) -> None:
        # one reference more or less concerns nobody, the last one does
        self._step("uses", what, what in _CHANGES or (what == "unref()" and self._refs <= 1))
        super()._used(what)

    def _step(self, verb: str, what: str, changes: bool) -> None:  # noqa: FBT001 - of `_used` alone
        task = current()
        if task is None:
            return
        guarded = getattr(self._lock, "owner", task) is task
        if not guarded and what not in _UNGUARDED:
            named = f"{what} of domain {self.name}"
            task.run.perform(task, verb, named, self._bit, reads=not changes)
        elif changes:
            task.touch(self._bit)
        else:
            task.look(self._bit)

    @property
    def being_destroyed(self) -> bool:
        self._used("being_destroyed")
        return self._being_destroyed

    @being_destroyed.setter
    def being_destroyed(self, value: bool) -> None:
        self._step("sets", "being_destroyed", changes=True)
        self._being_destroyed = value

    @property
    def job(self) -> str | None:
        self._used("job")
        return self._job

    @job.setter
    def job(self, value: str | None) -> None:
        self._step("sets", "job", changes=True)
        self._job = value


class Notices:
    """Takes down what becomes of the domains of one schedule."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.uses: list[FreedUse] = []
        self.clean_ups: list[CleanUp] = []

    def used_after_free(self, domain: str, what: str) -> None:
        actor, at_ns, site = self._now()
        self.uses.append(FreedUse(domain=domain, what=what, actor=actor, at_ns=at_ns, site=site))

    def torn_down(self, domain: str, incarnation: Incarnation | None) -> None:
        run = None if incarnation is None else incarnation.id
        actor, at_ns, site = self._now()
        self.clean_ups.append(
            CleanUp(domain=domain, incarnation=run, actor=actor, at_ns=at_ns, site=site)
        )

    def _now(self) -> tuple[str, int, Frame | None]:
        task = current()
        actor = "setup" if task is None else task.name
        site: Frame | None = None
        if self.run.recorded and task is not None and task.worker is not None:
            stack = current_stack(task.worker.ident)
            site = stack[0] if stack else None
        return actor, self.run.now, site
