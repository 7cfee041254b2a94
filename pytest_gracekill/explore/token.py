"""The replay token: which exploration of a test, of what, under which clock, with which choices.

``1.1j.9f3a22b1.3-1_7-t``: format 1, the first exploration of its test, clock *jump*, a fingerprint
of the scenario, and the choices that differ from carrying on, as point and task (``t``: time
passes). The same on every Python version: nothing in it depends on code, only on operations.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gracekill.errors import UsageError
from pytest_gracekill.explore.tasks import TIME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_gracekill.explore.run import Clock

FORMAT = 1

_CLOCKS: dict[str, Clock] = {"j": "jump", "e": "explore"}
_SHAPE = re.compile(
    r"(?P<format>\d+)\.(?P<number>\d+)(?P<clock>[je])\.(?P<print>[0-9a-f]{8})"
    r"\.(?P<choices>|\d+-(?:\d+|t)(?:_\d+-(?:\d+|t))*)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One schedule of one scenario. ``choices``: task (or TIME) by the number of the point."""

    number: int
    clock: Clock
    fingerprint: str
    choices: Mapping[int, int]

    def __str__(self) -> str:
        letter = next(letter for letter, clock in _CLOCKS.items() if clock == self.clock)
        choices = "_".join(
            f"{point}-{'t' if task == TIME else task}"
            for point, task in sorted(self.choices.items())
        )
        return f"{FORMAT}.{self.number}{letter}.{self.fingerprint}.{choices}"


def fingerprint(identity: str) -> str:
    """What a scenario is known by."""
    return hashlib.sha256(identity.encode()).hexdigest()[:8]


def parse(text: str, source: str) -> Token:
    """Read a token.

    :raises UsageError: it is none, or one of another version.
    """
    found = _SHAPE.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"{text!r} is no token of an exploration: one looks like 1.1j.9f3a22b1.3-1_7-t, and is"
            " printed with the failure",
            source=source,
        )
    if int(found["format"]) != FORMAT:
        raise UsageError(
            f"{text!r} is a token of format {found['format']}; this version reads {FORMAT}",
            source=source,
        )
    choices: dict[int, int] = {}
    for part in filter(None, found["choices"].split("_")):
        point, _, task = part.partition("-")
        if int(point) in choices:
            raise UsageError(f"{text!r} decides choice {point} twice", source=source)
        choices[int(point)] = TIME if task == "t" else int(task)
    return Token(
        number=int(found["number"]),
        clock=_CLOCKS[found["clock"]],
        fingerprint=found["print"],
        choices=choices,
    )
