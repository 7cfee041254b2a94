"""What threads are called in a picture, and which lane is whose."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_gracekill.render.picture.gathered import Gathered
    from pytest_gracekill.render.record import Record

ROUTINE = "the routine"
#: What the names of our own threads begin with.
_OURS = "gracekill:"
_EXPLORED = "gracekill:routine"
_CALLER = "gracekill:caller-"
#: Who takes the steps in which time passes: nobody.
TIME = "time"


class People:
    """The threads of one trial: who is the routine, who calls it too, who contends."""

    def __init__(self, seen: Gathered, record: Record) -> None:
        calls = [call.actor for call in record.calls]
        calls += [noted.actor for noted in seen.of_kind("call")]
        tasks = dict.fromkeys(step.task for step in record.steps)
        calls += [task for task in tasks if task.startswith((_EXPLORED, _CALLER))]
        self.callers = tuple(dict.fromkeys(calls))
        self.routine = self.callers[0] if self.callers else None
        self.names = {work.actor: work.name for work in seen.works}
        self.contenders = tuple(
            dict.fromkeys(
                [
                    *self.names,
                    # a history without their operations has their locks
                    *(
                        actor
                        for actor in (*seen.actors, *tasks)
                        if actor.startswith(_OURS) and actor not in self.callers
                    ),
                ]
            )
        )
        everybody = dict.fromkeys((*seen.actors, *tasks))
        self.others = tuple(
            actor
            for actor in everybody
            if actor != TIME and actor not in self.callers and actor not in self.contenders
        )

    @property
    def everybody(self) -> tuple[str, ...]:
        """All threads, each once."""
        return (*self.callers, *self.contenders, *self.others)

    def name(self, actor: str) -> str:
        """As people know it."""
        if actor == self.routine:
            return ROUTINE
        return self.names.get(actor, actor.removeprefix(_OURS))

    def key(self, actor: str) -> str:
        """The key of its lane."""
        return "routine" if actor == self.routine else f"thread {actor}"

    def resolve(self, lane: str) -> str:
        """The key of the lane that a moment names."""
        kind, _, actor = lane.partition(" ")
        return self.key(actor) if kind == "thread" else lane
