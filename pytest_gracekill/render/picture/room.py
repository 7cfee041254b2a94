"""What is drawn one by one and what as a density: a picture has room for some hundred spans.

Long things are drawn, the longest first; short ones, of which there are thousands, are counted in
equally long bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pytest_gracekill.render.picture.records import Density

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: Bins of a density, from the begin of a picture to its end.
BINS = 300
#: Spans of a picture, and of one lane.
SPANS = 600
_OF_A_LANE = 40
#: A span is worth its element from this share of the picture on.
_SHORTEST = 1 / 400

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """From when until when is drawn, and how many spans a lane may have."""

    begin: float
    end: float
    lanes: int

    @property
    def length(self) -> float:
        return self.end - self.begin

    def inside(self, since: float, until: float) -> bool:
        """Whether something of it is drawn."""
        return until >= self.begin and since <= self.end

    def split(
        self, items: Sequence[Item], ends: Callable[[Item], tuple[float, float]]
    ) -> tuple[list[Item], list[Item]]:
        """Those that are drawn one by one, and those that are counted; both in their order."""
        within = [item for item in items if self.inside(*ends(item))]
        most = max(min(_OF_A_LANE, SPANS // max(self.lanes, 1)), 4)
        if len(within) <= most:
            return within, []
        lengths = {
            number: ends(item)[1] - ends(item)[0]
            for number, item in enumerate(within)
            if ends(item)[1] - ends(item)[0] >= self.length * _SHORTEST
        }
        drawn = set(sorted(lengths, key=lambda number: -lengths[number])[:most])
        return (
            [item for number, item in enumerate(within) if number in drawn],
            [item for number, item in enumerate(within) if number not in drawn],
        )

    def density(self, what: str, ends: Iterable[tuple[float, float]]) -> Density | None:
        """Count what began in each bin, and how much of the bin's time all of it took."""
        counts, taken = [0] * BINS, [0.0] * BINS
        width = self.length / BINS
        if width <= 0:
            return None
        for since, until in ends:
            first = int((since - self.begin) / width)
            last = int((until - self.begin) / width)
            if 0 <= first < BINS:
                counts[first] += 1
            if first == last:
                if 0 <= first < BINS:
                    taken[first] += until - since
                continue
            for bin_ in range(max(first, 0), min(last, BINS - 1) + 1):
                start = self.begin + bin_ * width
                taken[bin_] += max(min(until, start + width) - max(since, start), 0.0)
        if not any(counts):
            return None
        return Density(
            since=self.begin,
            until=self.end,
            what=what,
            counts=tuple(counts),
            shares=tuple(round(min(seconds / width, 1.0), 4) for seconds in taken),
        )
