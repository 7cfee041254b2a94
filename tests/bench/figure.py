"""One figure: samples, their spread, and the promise that the median is held against."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from statistics import median, quantiles
from typing import Literal

_NAME, _NUMBER = 28, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A limit for the median."""

    limit: float
    side: Literal["<=", ">="] = "<="

    def missed_by(self, value: float) -> float:
        """By how much a value is on the wrong side; 0 or less when it is not."""
        return value - self.limit if self.side == "<=" else self.limit - value


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

    @property
    def noise(self) -> float:
        """Two standard errors of the median, by the quartiles, which outliers don't move."""
        if len(self.samples) < 2:
            return inf
        low, _, high = quantiles(self.samples, n=4, method="inclusive")
        return 2 * 1.2533 * (high - low) / 1.349 / sqrt(len(self.samples))

    def __str__(self) -> str:
        spread = min(self.samples), self.median, max(self.samples)
        line = f"  {self.name:<{_NAME}}" + "".join(
            f"{self._shown(value):>{_NUMBER}}" for value in spread
        )
        if self.promise is None:
            return line
        missed = self.promise.missed_by(self.median)
        verdict = "holds" if self.holds else f"misses by {self._shown(missed)}"
        line += f"  {self.promise.side} {self._shown(self.promise.limit)}: {verdict}"
        return f"{line} (noise)" if abs(missed) < self.noise else line

    def _shown(self, value: float) -> str:
        scaled = value * self.scale
        return f"{scaled:.{0 if abs(scaled) >= 100 else 2}f} {self.unit}"


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
