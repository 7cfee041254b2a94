"""What a cell of the terminal is filled with: signs of every terminal, or of one with UTF-8."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What a span is filled with, by its kind. Each kind has a sign of its own: no colour is needed.
_PLAIN: Mapping[str, str] = {
    "ready": ":",
    "flushing": "=",
    "lingering": "-",
    "stopped": "s",
    "lost": "x",
    "call": "-",
    "sleeps": "z",
    "stands": "_",
    "works": "#",
    "own": "R",
    "held": "o",
    "waits": "w",
    "stalls": "!",
    "operation": "+",
    "moment": "|",
}
_FINE: Mapping[str, str] = {
    **_PLAIN,
    "ready": "░",
    "flushing": "▓",
    "lingering": "─",
    "lost": "×",  # noqa: RUF001 - it is a sign, no letter
    "call": "─",
    "stands": "┄",
    "works": "█",
    "own": "█",
    "held": "▒",
    "moment": "│",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ink:
    """Signs for spans, for how much there is of something (from little to much), and for a cut."""

    signs: Mapping[str, str] = field(repr=False)
    levels: str
    cut: str
    plain: bool

    def __str__(self) -> str:
        return "plain ASCII" if self.plain else "Unicode"

    def words(self, text: str) -> str:
        """A text that takes one column a character, and that a terminal takes for nothing else."""
        return "".join(map(self._word, text))

    def _word(self, character: str) -> str:
        if character.isascii():
            return character if character.isprintable() else "?"
        if self.plain or not character.isprintable() or unicodedata.combining(character):
            return "?"
        return "?" if unicodedata.east_asian_width(character) in "WF" else character

    def fitted(self, text: str, width: int) -> str:
        """A text of at most so many columns."""
        text = self.words(text)
        if len(text) <= width:
            return text
        return text[: max(width - len(self.cut), 0)].rstrip(" ,") + self.cut[:width]


PLAIN = Ink(signs=_PLAIN, levels=".:", cut="...", plain=True)
FINE = Ink(signs=_FINE, levels="·•", cut="…", plain=False)


def ink_for(encoding: str | None) -> Ink:
    """What a terminal, or a file, of this encoding can show."""
    try:
        "".join((*FINE.signs.values(), FINE.levels, FINE.cut)).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return PLAIN
    return FINE
