"""What is filled in into commands and files: ``{pid}`` and its like, in words and in texts."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING, TypeAlias

from pytest_gracekill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Values: TypeAlias = "dict[str, str | list[str]]"

#: What can be filled in, by name.
FIELDS = ("pid", "argv", "program", "dir", "pid_file", "qmp")

#: Braces around anything but a name are left alone, as in JSON, and so is a shell's ``${name}``.
_FIELD = re.compile(r"(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)\}")
#: The same in a text that has ``{{``: it says by doubling which braces are to stay.
_DOUBLED = re.compile(r"\{\{|\}\}|(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)\}")


def words_of(command: object) -> list[str]:
    """The words of a command: a string is split as a shell would, without its expansions.

    :raises TypeError: it is neither a string nor a list of strings.
    :raises ValueError: it is empty, a quote is left open, or no process can be given a word of it.
    """
    if isinstance(command, str):
        words = shlex.split(command)
    elif isinstance(command, list | tuple):
        for number, word in enumerate(command, start=1):
            if not isinstance(word, str):
                raise TypeError(f"its word {number} is {word!r}")
        words = list(command)
    else:
        raise TypeError("it is neither")
    if not words:
        raise ValueError("it is empty")
    if any(b"\0" in os.fsencode(word) for word in words):
        raise ValueError("a NUL character is in it")
    return words


def shown(command: object) -> str:
    """A command as one line; one that cannot be run as its value is written."""
    try:
        return command if isinstance(command, str) else shlex.join(words_of(command))
    except (TypeError, ValueError):
        return repr(command)


def named_in(text: str | Sequence[str]) -> set[str]:
    """The names of the fields in a text, or in several."""
    texts = [text] if isinstance(text, str) else text
    return {found[1] for text in texts for found in _pattern(text).finditer(text) if found[1]}


def check(where: str, text: str, known: Sequence[str], source: str) -> None:
    """:raises UsageError: a field that is not known there; the text says which are."""
    for name in sorted(named_in(text) - set(known)):
        there = ", ".join(f"{{{field}}}" for field in known)
        why = f"{{{name}}} is not known there" if name in FIELDS else f"there is no {{{name}}}"
        raise UsageError(
            f"{where}={text!r}: {why}; filled in are {there} ({{{{{name}}}}} stays {{{name}}})",
            source=source,
        )


def filled(text: str, values: Mapping[str, str | list[str]]) -> str:
    """The text with its fields filled in; a list as a shell would have to read it."""

    def value(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0][0]
        value = values[found[1]]
        return shlex.join(value) if isinstance(value, list) else value

    return _pattern(text).sub(value, text)


def filled_words(command: object, values: Mapping[str, str | list[str]]) -> list[str]:
    """The words of a command, filled in; a word that is ``{argv}`` alone becomes several."""
    words: list[str] = []
    for word in words_of(command):
        value = values.get(word[1:-1]) if word == "{argv}" else None
        words += value if isinstance(value, list) else [filled(word, values)]
    return words


def _pattern(text: str) -> re.Pattern[str]:
    return _DOUBLED if "{{" in text else _FIELD
