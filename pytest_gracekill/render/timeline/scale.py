"""From a moment to a place between 0 (the left end) and 1 (the right end); the ticks of an axis.

A real trial is drawn in proportion. An explored schedule is not: its steps take no time, or all of
it, so each gets some room of its own, and time passes between them.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from math import floor, log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_gracekill.render.picture import Picture

#: How much of the room of an explored schedule is spread evenly over its steps.
_EVEN = 0.75
#: About how many ticks an axis has.
_TICKS = 10
#: Where a label has no room for its left half.
_EDGE = 0.02
#: Steps that can have room of their own.
_KNOTS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Places of moments: linear between its knots, which are pairs of a moment and its place."""

    knots: tuple[tuple[float, float], ...]

    def place(self, at: float) -> float:
        """Where a moment is; outside of the picture, where it would be."""
        number = bisect_right(self.knots, (at, 2.0)) - 1
        number = min(max(number, 0), len(self.knots) - 2)
        (since, left), (until, right) = self.knots[number], self.knots[number + 1]
        if until <= since:
            return left
        return left + (right - left) * (at - since) / (until - since)

    @property
    def even(self) -> bool:
        """Whether it is in proportion all over."""
        return len(self.knots) == 2  # noqa: PLR2004 - the two ends


def scale_of(picture: Picture, *others: Picture) -> Scale:
    """The scale that fits a picture, and others of the same extent."""
    begin, end = picture.begin, picture.end
    steps = [step for each in (picture, *others) for step in each.steps]
    moments = sorted({step.at for step in steps if begin <= step.at <= end})
    if not picture.virtual or len(moments) < 2:  # noqa: PLR2004 - nothing to spread
        return Scale(knots=((begin, 0.0), (end, 1.0)))
    every = max(len(moments) // _KNOTS, 1)
    knots = sorted({begin, *moments[::every], end})
    length = end - begin
    return Scale(
        knots=tuple(
            (at, _EVEN * rank / (len(knots) - 1) + (1 - _EVEN) * (at - begin) / length)
            for rank, at in enumerate(knots)
        )
    )


def ticks(scale: Scale) -> list[tuple[float, str]]:
    """Round moments, and how each is told, as precisely as they are apart."""
    begin, end = scale.knots[0][0], scale.knots[-1][0]
    if not scale.even:
        return _apart([at for at, _ in scale.knots], scale)
    step = _round((end - begin) / _TICKS)
    first = floor(begin / step) + 1
    moments = [number * step for number in range(first, floor(end / step) + 1)]
    digits = max(0, -floor(log10(step)))
    return [(at, f"t{at + 0.0:+.{digits}f}" if abs(at) > step / 2 else "t+0") for at in moments]


def _apart(moments: list[float], scale: Scale) -> list[tuple[float, str]]:
    """Moments whose labels do not run into each other, and are not the same."""
    found: list[tuple[float, str]] = []
    for at in moments[:-1]:
        label = f"t{at + 0.0:+.3f}"
        if scale.place(at) < _EDGE:
            continue
        far = not found or scale.place(at) - scale.place(found[-1][0]) > 0.8 / _TICKS
        if far and (not found or label != found[-1][1]):
            found.append((at, label))
    return found


def _round(rough: float) -> float:
    """The next of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** floor(log10(rough))
    return next((power * times for times in (1, 2, 5) if power * times >= rough), power * 10)


def longest_gap(counts: tuple[int, ...]) -> tuple[int, int]:
    """The longest run of empty bins between two that are not: first bin, and the one after."""
    filled = [number for number, count in enumerate(counts) if count]
    gaps = [(right - left, left + 1, right) for left, right in pairwise(filled)]
    _, first, last = max(gaps, default=(0, 0, 0))
    return first, last
