"""An explored schedule, spread: what happens at one instant of virtual time, step after step.

In virtual time a step takes no time: everything that a deadlock needs happens at the same instant.
For a picture each step is moved by some nanoseconds, in its order, and all else with the step that
it belongs to. What the steps say of locks and signals is put beside them as events, since a history
has only what took time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from pytest_gracekill.circumstances import NO_FURTHER
from pytest_gracekill.data.requests import signal_name
from pytest_gracekill.witness.history import Event
from pytest_gracekill.witness.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gracekill.render.folder import Saved, Story
    from pytest_gracekill.render.record import Called, Record, Step
    from pytest_gracekill.report import Moment, Verdict

#: Nanoseconds from one step to the next of the same instant.
_APART = 10
#: What the VM does of itself before anybody has done anything.
_FIRST = ("start", "role", "ack", "pid_file", "handlers", "ready")


class _Placed(NamedTuple):
    """A step, and when it is drawn."""

    step: Step
    at_ns: int


class _Order:
    """When each thing of a schedule is drawn."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.placed = [
            _Placed(step, step.at_ns + _APART * rank) for rank, step in enumerate(steps, start=1)
        ]
        self._at = [step.at_ns for step in steps]

    def before(self, at_ns: int) -> int:
        """Before all steps of that instant."""
        return at_ns + _APART * bisect_left(self._at, at_ns)

    def after(self, at_ns: int) -> int:
        """After all steps of that instant."""
        return at_ns + _APART * bisect_right(self._at, at_ns) + _APART // 2

    def latest(self, task: str, at_ns: int) -> int:
        """At the last step of a task until then."""
        mine = [p.at_ns for p in self.placed if p.step.task == task and p.step.at_ns <= at_ns]
        return mine[-1] if mine else self.before(at_ns)

    def first(self, at_ns: int, operation: str, task: str | None = None) -> int | None:
        """At the first step of that instant that is such an operation."""
        for placed in self.placed[bisect_left(self._at, at_ns) :]:
            if placed.step.at_ns > at_ns:
                return None
            if placed.step.operation.startswith(operation) and task in (None, placed.step.task):
                return placed.at_ns
        return None


def spread(saved: Saved) -> Saved:
    """The same with its steps apart; what has no schedule is as it was."""
    record = saved.record
    if not record.steps:
        return saved
    order = _Order(record.steps)
    events = [*_moved(saved.story, order), *_said(order)]
    events.sort(key=lambda event: event.at_ns)
    return replace(
        saved,
        story=Recording(saved.story.origin_ns, events),
        record=_record(record, order),
    )


def _moved(story: Story, order: _Order) -> Iterator[Event]:
    locks = any(placed.step.operation.startswith("acquires ") for placed in order.placed)
    for event in story.events():
        if event.kind == "step" or (event.kind == "hold" and locks):
            continue  # the steps say it
        if event.kind == "wait":
            yield _wait(event, order)
        elif event.actor == "fake":
            yield replace(event, at_ns=_of_the_vm(event, order))
        else:
            yield replace(event, at_ns=order.latest(event.actor, event.at_ns))


def _wait(event: Event, order: _Order) -> Event:
    until = event.fields.get("until_ns")
    fields = dict(event.fields)
    if isinstance(until, int):
        taken = order.first(until, f"acquires {event.fields.get('lock')}", event.actor)
        fields["until_ns"] = order.after(until) if taken is None else taken
    return replace(event, at_ns=order.latest(event.actor, event.at_ns) + 1, fields=fields)


def _of_the_vm(event: Event, order: _Order) -> int:
    if event.kind in _FIRST:
        return order.before(event.at_ns)
    # a signal 0 has changed nothing
    number = event.fields.get("signal")
    name = signal_name(number) if isinstance(number, int) else "SIG"
    sent = order.first(event.at_ns, f"sends {name}")
    return order.before(event.at_ns) if sent is None else sent + 1


def _said(order: _Order) -> Iterator[Event]:
    """What the steps say: who takes and gives back which lock, sends what, waits where."""
    held: dict[tuple[str, str], _Placed] = {}
    before: dict[str, _Placed] = {}
    for placed in order.placed:
        step, at_ns = placed
        verb, _, what = step.operation.partition(" ")
        if verb == "acquires":
            held.setdefault((step.task, what), placed)
        elif verb == "releases" and (since := held.pop((step.task, what), None)) is not None:
            yield _hold(since, what, at_ns)
        elif verb == "sends":
            name, _, target = what.partition(" to ")
            if name != "signal 0":
                fields = {"signal": name, "target": target, "site": step.line}
                yield Event(at_ns=at_ns, kind="signal", actor=step.task, fields=fields)
        elif step.operation.endswith(NO_FURTHER):
            yield from _stuck(placed)
        earlier = before.get(step.task)
        if earlier is not None and step.at_ns > earlier.step.at_ns and verb in ("sleeps", "waits"):
            yield _stand(earlier, placed)
        before[step.task] = placed
    for (_, lock), since in held.items():
        yield _hold(since, lock, None)


def _hold(since: _Placed, lock: str, released_ns: int | None) -> Event:
    fields = {"lock": lock, "released_ns": released_ns, "site": since.step.line}
    return Event(at_ns=since.at_ns, kind="hold", actor=since.step.task, fields=fields)


def _stuck(placed: _Placed) -> Iterator[Event]:
    """A wait that nothing ends any more."""
    step = placed.step
    lock = step.operation.removeprefix("waits for ").partition(" (held by ")[0]
    if lock != step.operation:
        fields = {"lock": lock, "until_ns": None, "acquired": False, "site": step.line}
        yield Event(at_ns=placed.at_ns, kind="wait", actor=step.task, fields=fields)


def _stand(since: _Placed, until: _Placed) -> Event:
    sleeps = until.step.operation.startswith("sleeps")
    fields = {
        "until_ns": until.at_ns,
        "busy": 0.0,
        "code": "sleep()" if sleeps else until.step.operation,
        "site": until.step.line,
    }
    return Event(at_ns=since.at_ns + 1, kind="stand", actor=until.step.task, fields=fields)


# -- what was concluded moves with it


def _record(record: Record, order: _Order) -> Record:
    return replace(
        record,
        steps=tuple(replace(placed.step, at_ns=placed.at_ns) for placed in order.placed),
        calls=tuple(_call(call, order) for call in record.calls),
        verdicts=tuple(_verdict(verdict, order) for verdict in record.verdicts),
    )


def _call(call: Called, order: _Order) -> Called:
    returned = order.latest(call.actor, call.returned_ns) + 1
    return replace(call, called_ns=order.before(call.called_ns), returned_ns=returned)


def _verdict(verdict: Verdict, order: _Order) -> Verdict:
    return replace(verdict, moments=tuple(_moment(m, order) for m in verdict.moments))


def _moment(moment: Moment, order: _Order) -> Moment:
    kind, _, name = moment.lane.partition(" ")
    until = None if moment.until_ns is None else order.after(moment.until_ns)
    if kind == "thread":
        return replace(moment, at_ns=order.latest(name, moment.at_ns), until_ns=until)
    at_ns = order.before(moment.at_ns)
    if kind == "lock":
        taken = order.first(moment.at_ns, f"acquires {name}")
        at_ns = at_ns if taken is None else taken
    elif until is None:
        at_ns = order.after(moment.at_ns)
    return replace(moment, at_ns=at_ns, until_ns=until)
