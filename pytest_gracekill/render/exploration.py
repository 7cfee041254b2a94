"""An exploration as text: the report of its failure, the schedule as steps, the replay."""

from __future__ import annotations

import shlex
import textwrap
from itertools import groupby
from typing import TYPE_CHECKING

from pytest_gracekill.render.text import table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gracekill.explore.findings import Failure, Findings
    from pytest_gracekill.explore.run import Step

_WIDTH = 100
#: Steps of one thread in a row that are told; of more the first and the last ones.
_SHOWN = 10
_ENDS = 4


def text(exploration: Findings) -> str:
    """The headline, what was looked at, and each failure with its schedule."""
    lines = [exploration.headline()]
    lines += _wrapped(exploration.scope, "  explored    ")
    if exploration.limit:
        lines += _wrapped(exploration.limit, "  limit       ")
    for failure in exploration.failures:
        lines += _failure(failure, exploration.test, first=failure is exploration.failures[0])
    return "\n".join(lines)


def _failure(failure: Failure, test: str, *, first: bool) -> Iterator[str]:
    rows = table(failure.judgement).splitlines()
    # the first one's headline stands on top already
    yield from rows[1:] if first else rows
    yield f"the schedule, in virtual time (clock {failure.clock}):"
    yield from steps(failure.steps, failure.origin_ns)
    yield "replay it:"
    # a test's id may have brackets, which mean something to a shell
    where = f"{shlex.quote(test)} " if test else ""
    yield f"  pytest {where}--gracekill-replay={failure.token}"


def steps(found: Sequence[Step], origin_ns: int) -> Iterator[str]:
    """The schedule as numbered steps, with what one thread does in a row drawn together."""
    number = 0
    for _, group in groupby(found, key=lambda step: step.actor):
        turn = list(group)
        for place, step in enumerate(turn):
            number += 1
            if len(turn) > _SHOWN and _ENDS <= place < len(turn) - _ENDS:
                if place == _ENDS:
                    left = len(turn) - 2 * _ENDS
                    yield f"       ... {left} more steps of {_named(step.actor)} ..."
                continue
            yield from _step(number, step, origin_ns)


def _step(number: int, step: Step, origin_ns: int) -> Iterator[str]:
    head = f"  {number:3}  t{(step.at_ns - origin_ns) / 1e9:+.3f}  "
    where = "" if step.site is None else f"  ({step.site})"
    yield from textwrap.wrap(
        f"{_named(step.actor)} {_plain(step.text)}{where}",
        width=_WIDTH,
        initial_indent=head,
        subsequent_indent=" " * (len(head) + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plain(text: str) -> str:
    """A step's text with the threads as people know them."""
    return text.replace("gracekill:routine", "the routine").replace("gracekill:", "")


def _named(actor: str) -> str:
    if actor == "gracekill:routine":
        return "the routine"
    return actor.removeprefix("gracekill:")


def _wrapped(line: str, head: str) -> list[str]:
    return textwrap.wrap(
        line,
        width=_WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
