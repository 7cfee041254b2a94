"""What stands above and below the lanes: the headline with the story in words, and the key."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from pytest_gracekill.render.timeline.marking import element, number, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gracekill.render.picture import Finding, Picture

#: Characters of a line across the whole picture, and how high one is.
_LINE = 180
_HIGH = 16
_CHARACTER = 5.6
_KEY = (
    ("memory", "acknowledged, only in memory"),
    ("durable", "on disk"),
    ("hatched", "lost, or standing still"),
    ("waits", "waits for a lock"),
    ("own", "lock held by the routine"),
    ("held", "lock held by another"),
    ("sleeps", "sleeps"),
    ("dots", "many short ones"),
)
#: How high the key is.
KEY_HEIGHT = 24


def head(picture: Picture, broken: Sequence[Finding]) -> tuple[str, float]:
    """The headline, the numbers of the pins, and the story; and how high all of it is."""
    parts = [element("text", text(picture.headline), x=8, y=14, class_="head-line")]
    y = 14.0 + _HIGH + 2
    for finding, number_ in zip(broken, range(1, len(broken) + 1), strict=True):
        words = f"{', '.join((finding.word, *finding.also))}: {finding.evidence}"
        pin = element("circle", cx=16, cy=y, r=7, class_="pin")
        pin += element("text", str(number_), x=16, y=y + 0.5, class_="pin-text")
        cut = words if len(words) <= _LINE else f"{words[: _LINE - 3]}..."
        parts.append(pin + element("text", text(cut), x=30, y=y))
        y += _HIGH
    for sentence in picture.story:
        for line in textwrap.wrap(sentence, _LINE):
            parts.append(element("text", text(line), x=8, y=y, class_="soft"))
            y += _HIGH
    return "".join(parts), y


def key(top: float) -> Iterator[str]:
    """What the colours and patterns mean."""
    x = 8.0
    for class_, words in _KEY:
        yield element("rect", x=x, y=top + 7, width=14, height=10, class_=class_)
        yield element("text", text(words), x=x + 18, y=number(top + 12), class_="dim")
        x += 18 + len(words) * _CHARACTER + 14
