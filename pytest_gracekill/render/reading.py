"""Reads an object out of JSON, field by field; what is not as it should be is named."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, NoReturn, Self, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class DamagedError(ValueError):
    """Something is missing, or is not what it should be."""


class Reading:
    """One JSON object; ``where`` is its place in the file, as errors name it."""

    def __init__(self, row: object, where: str = "") -> None:
        if not isinstance(row, dict):
            raise DamagedError(f"{where or 'the whole'} is no JSON object but {_shown(row)}")
        self._row: dict[str, object] = row
        self._where = where

    @classmethod
    def of(cls, text: str) -> Self:
        """Parse a text."""
        try:
            return cls(json.loads(text))
        except (ValueError, RecursionError) as error:
            if isinstance(error, DamagedError):
                raise
            raise DamagedError(f"it is no JSON ({error})") from error

    def text(self, name: str) -> str:
        value = self._get(name)
        return value if isinstance(value, str) else self._wrong(name, "a text")

    def text_or_none(self, name: str) -> str | None:
        return None if self._row.get(name) is None else self.text(name)

    def one_of(self, name: str, known: Sequence[str]) -> str:
        value = self.text(name)
        return value if value in known else self._wrong(name, f"one of {', '.join(known)}")

    def truth(self, name: str) -> bool:
        value = self._get(name)
        return value if isinstance(value, bool) else self._wrong(name, "true or false")

    def integer(self, name: str) -> int:
        value = self._get(name)
        return value if _is_integer(value) else self._wrong(name, "an integer")

    def integer_or_none(self, name: str) -> int | None:
        return None if self._row.get(name) is None else self.integer(name)

    def integers(self, name: str) -> list[int]:
        return [
            value if _is_integer(value) else self._wrong(name, "a list of integers")
            for value in self._list(name)
        ]

    def seconds_or_none(self, name: str) -> float | None:
        value = self._row.get(name)
        if value is None:
            return None
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            self._wrong(name, "a number of seconds")
        return float(value)

    def texts(self, name: str) -> list[str]:
        return [
            value if isinstance(value, str) else self._wrong(name, "a list of texts")
            for value in self._list(name)
        ]

    def mapping(self, name: str) -> Mapping[str, object]:
        value = self._get(name)
        return value if isinstance(value, dict) else self._wrong(name, "an object")

    def texts_by_name(self, name: str) -> dict[str, str]:
        return {
            key: value if isinstance(value, str) else self._wrong(name, "an object of texts")
            for key, value in self.mapping(name).items()
        }

    def rows(self, name: str) -> list[Reading]:
        return [
            Reading(row, f"{self._at(name)}[{number}]")
            for number, row in enumerate(self._list(name))
        ]

    def row_or_none(self, name: str) -> Reading | None:
        value = self._row.get(name)
        return None if value is None else Reading(value, self._at(name))

    def _list(self, name: str) -> list[object]:
        value = self._get(name)
        return value if isinstance(value, list) else self._wrong(name, "a list")

    def _get(self, name: str) -> object:
        if name not in self._row:
            raise DamagedError(f"{self._at(name)} is missing")
        return self._row[name]

    def _wrong(self, name: str, right: str) -> NoReturn:
        raise DamagedError(f"{self._at(name)} is {_shown(self._row.get(name))}, not {right}")

    def _at(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    longest = 60
    return text if len(text) <= longest else text[: longest - 3] + "..."
