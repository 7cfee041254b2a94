"""The sheet on which lanes are drawn: where a moment is, and the elements that can be pointed at.

An item is a group that is moved as a whole, by its place `data-a` (and `data-b` where it lasts), so
that a script can zoom without knowing what it is. Its `<title>` says what it is, for whoever hovers
over it, and for whoever cannot see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gracekill.render.timeline.marking import element, number, share, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_gracekill.render.timeline.scale import Scale

WIDTH = 1200
#: Where the plot begins, and where it ends.
LEFT = 190
RIGHT = 1188
#: The width of a character in a label of 11 px, roughly: what does not fit is not shown.
_CHARACTER = 6.1
#: So many characters say something, at least.
_FEWEST = 6
#: How far something may reach out of the plot.
_EDGE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A text within an item: its classes, and how far below the item's top it stands."""

    words: str
    down: float
    class_: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """From where to where something stands upright, in pixels from the top."""

    top: float
    height: float

    @property
    def bottom(self) -> float:
        return self.top + self.height

    @property
    def middle(self) -> float:
        return self.top + self.height / 2


class Canvas:
    """Makes elements at the places of moments; ``prefix`` keeps the ids of two drawings apart."""

    def __init__(self, scale: Scale, prefix: str) -> None:
        self.scale = scale
        self.prefix = prefix
        #: The number of each lane by its key, in their order.
        self.rows: dict[str, int] = {}

    def x(self, at: float) -> float:
        """Where a moment is, in pixels."""
        return LEFT + (RIGHT - LEFT) * self.scale.place(at)

    def span(
        self,
        *,
        since: float,
        until: float,
        box: Box,
        class_: str,
        title: str,
        lane: str,
        labels: Sequence[Label] = (),
        owner: str | None = None,
        lock: str | None = None,
    ) -> str:
        """An item that lasts."""
        inner = element("title", text(title)) + self._rect(since, until, box, class_)
        inner += self._labels(since, until, box, labels)
        return element(
            "g",
            inner,
            class_="i",
            **self._places(since, until),
            data_lane=self._row(lane),
            data_owner=self._row(owner),
            data_lock=self._row(None if lock is None else f"lock {lock}"),
        )

    def caption(self, since: float, until: float, box: Box, labels: Sequence[Label]) -> str:
        """Words over what lasts that long; no item."""
        inner = self._rect(since, until, box, "clear") + self._labels(since, until, box, labels)
        return element("g", inner, class_="m", **self._places(since, until))

    def _places(self, since: float, until: float) -> dict[str, str]:
        left = max(self.x(since), LEFT - _EDGE)
        return {
            "transform": f"translate({number(left)})",
            "data_a": share(self.scale.place(since)),
            "data_b": share(self.scale.place(until)),
        }

    def _width(self, since: float, until: float) -> float:
        """How much of it is in the picture: what reaches out is cut, so that its label shows."""
        left, right = max(self.x(since), LEFT - _EDGE), min(self.x(until), RIGHT + _EDGE)
        return max(right - left, 1.5)

    def _rect(self, since: float, until: float, box: Box, class_: str) -> str:
        return element(
            "rect",
            y=box.top,
            width=self._width(since, until),
            height=box.height,
            rx=min(2.0, box.height / 4),
            class_=class_,
        )

    def _labels(self, since: float, until: float, box: Box, labels: Sequence[Label]) -> str:
        room = int((self._width(since, until) - 8) / _CHARACTER)
        return "".join(self._label(since, box, label, room) for label in labels)

    def _label(self, since: float, box: Box, label: Label, room: int) -> str:
        """As much of it as there is room for; who zooms has all of it."""
        whole = len(label.words) <= room
        return element(
            "text",
            text(label.words if whole else f"{label.words[: max(room - 1, 0)].rstrip()}\u2026"),
            x=4 + (_EDGE if self.x(since) < LEFT else 0),
            y=box.top + label.down,
            class_=f"l {label.class_}".strip(),
            visibility=None if whole or room >= _FEWEST else "hidden",
            data_words=None if whole else label.words,
        )

    def mark(
        self,
        *,
        at: float,
        title: str,
        lane: str,
        shape: str,
        kind: str = "",
        id_: str | None = None,
    ) -> str:
        """An item at one moment; ``shape`` is drawn around x = 0."""
        return element(
            "g",
            element("title", text(title)) + shape,
            class_=f"i {kind}".strip(),
            id=id_,
            transform=f"translate({number(self.x(at))})",
            data_a=share(self.scale.place(at)),
            data_lane=self._row(lane),
        )

    def still(self, at: float, shape: str, class_: str) -> str:
        """Something at one moment that is no item, such as a line of the grid."""
        return element(
            "g",
            shape,
            class_=f"m {class_}".strip(),
            transform=f"translate({number(self.x(at))})",
            data_a=share(self.scale.place(at)),
        )

    def stretched(self, path: str, class_: str) -> str:
        """An area that is stretched as it is, its x from 0 to 1."""
        return element(
            "path",
            d=path,
            class_=f"s {class_}",
            transform=f"matrix({RIGHT - LEFT} 0 0 1 {LEFT} 0)",
        )

    def _row(self, key: str | None) -> str | None:
        row = None if key is None else self.rows.get(key)
        return None if row is None else str(row)
