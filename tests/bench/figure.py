"""One figure: samples, their spread, and the promise that the median is held against."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Literal

_NAME, _NUMBER = 33, 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A limit for the median."""

    limit: float
    side: Literal["at most", "at least"] = "at most"

    def missed_by(self, value: float) -> float:
        """By how much a value is on the wrong side; 0 or less when it is not."""
        return value - self.limit if self.side == "at most" else self.limit - value


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """``str()`` is one line, ``scale`` what a sample is multiplied with for ``unit``."""

    name: str
    samples: tuple[float, ...]
    unit: str
    scale: float = 1.0
    promise: Promise | None = None

    @property
    def median(self) -> float:
        return median(self.samples)

    @property
    def holds(self) -> bool:
        return self.promise is None or self.promise.missed_by(self.median) <= 0

    def __str__(self) -> str:
        spread = min(self.samples), self.median, max(self.samples)
        line = f"  {self.name:<{_NAME}}" + "".join(
            f"{self._shown(value):>{_NUMBER}}" for value in spread
        )
        if self.promise is None:
            return line
        line += f"   {self.promise.side} {self._shown(self.promise.limit)}: "
        missed = self.promise.missed_by(self.median)
        return line + ("holds" if missed <= 0 else f"misses by {self._shown(missed)}")

    def _shown(self, value: float) -> str:
        return f"{value * self.scale:.2f} {self.unit}".rstrip()


def ratio(name: str, over: Figure, under: Figure, promise: Promise | None = None) -> Figure:
    """The ratio of two medians; its spread is that of the rounds, pair by pair."""
    return Ratio(
        name=name,
        samples=tuple(a / b for a, b in zip(over.samples, under.samples, strict=True)),
        unit="x",
        promise=promise,
        value=over.median / under.median,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio(Figure):
    """A figure whose middle is the ratio of the medians, not the median of the ratios."""

    value: float

    @property
    def median(self) -> float:
        return self.value
