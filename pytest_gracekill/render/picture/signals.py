"""The lane of signals: who sent which, when, to whom, and what was refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.data.requests import signal_name
from pytest_gracekill.render.picture.gathered import number_of
from pytest_gracekill.render.picture.records import Lane, Mark, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gracekill.render.picture.gathered import Gathered, Noted
    from pytest_gracekill.render.picture.people import People
    from pytest_gracekill.render.picture.room import Room

#: Recipients that are not the VM: see `witness.recipients`.
_ELSEWHERE = ("wrapper", "helper", "routine's process", "itself", "nobody")

#: Signals that are drawn one by one; more of them are a density.
_MOST = 60


def lane(seen: Gathered, people: People, room: Room) -> Lane:
    """The lane; there is always one, since no signal at all says something, too."""
    sent = [event for event in seen.of_kind("signal") if room.inside(event.at, event.at)]
    vms = [event.fields.get("pid") for event in sent if event.fields.get("to") == "vm"]
    marks = [
        # a pid that was the VM's stood for the VM, too
        _mark(event, people, elsewhere=_elsewhere(event) and event.fields.get("pid") not in vms)
        for event in sent
    ]
    marks += _unseen(seen, sent)
    marks.sort(key=lambda mark: mark.at)
    shown = marks if len(marks) <= _MOST else [*marks[: _MOST // 2], *marks[-_MOST // 2 :]]
    rest = marks[_MOST // 2 : -_MOST // 2] if len(marks) > _MOST else []
    return Lane(
        key="signals",
        kind="signals",
        name="signals",
        summary=_summary(marks),
        marks=tuple(shown),
        density=room.density("signals", [(mark.at, mark.at) for mark in rest]),
    )


def _elsewhere(event: Noted) -> bool:
    return event.fields.get("to") in _ELSEWHERE


def _mark(event: Noted, people: People, *, elsewhere: bool) -> Mark:
    name = str(event.fields.get("signal", "a signal"))
    refused, errno = event.fields.get("refused") is True, event.fields.get("errno")
    held = event.fields.get("held")
    text = f"{name} to {event.fields.get('target', 'somebody')} by {people.name(event.actor)}"
    if refused:
        text += ", refused: it is no part of the trial"
    elif errno is not None:
        text += f", in vain (errno {errno})"
    if isinstance(held, list) and held:
        text += f", holding {' and '.join(map(str, held))}"
    if event.fields.get("site"):
        text += f", at {event.fields['site']}"
    label = f"{name} elsewhere" if elsewhere else name
    bad = refused or label == "SIGKILL"
    return Mark(at=event.at, kind="signal", label=label, text=text, bad=bad)


def _unseen(seen: Gathered, sent: list[Noted]) -> Iterator[Mark]:
    """Signals that nobody was seen to send: the VM got them all the same."""
    for event in seen.by_fake("signal", "stranger_hit"):
        name = signal_name(number_of(event, "signal") or 0)
        taken = event.kind == "signal"
        if taken and any(
            str(other.fields.get("signal")) == name and not _elsewhere(other) for other in sent
        ):
            continue
        pid = number_of(event, "pid")
        by = f" from pid {pid}" if pid else ""
        to = "the VM" if taken else "a process that has got the VM's pid since"
        yield Mark(
            at=event.at, kind="signal", label=name, text=f"{name} came to {to}{by}", bad=not taken
        )


def _summary(marks: list[Mark]) -> str:
    if not marks:
        return "no signal was sent"
    told = [f"{mark.label} {stamp(mark.at)}" for mark in marks]
    return ", ".join(told if len(told) <= 4 else [*told[:3], f"{len(told) - 3} more"])  # noqa: PLR2004 - a line's worth
