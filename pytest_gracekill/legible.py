"""Text of objects that are not ours: what a routine returned, raised or printed.

Such text may raise while it is made, be a megabyte long, or hold control characters that a terminal
obeys and XML forbids. Everything of a user's that enters a report passes through here.
"""

from __future__ import annotations

import re

#: Characters of one object's text that a report keeps: the first and the last ones.
_FIRST, _LAST = 700, 300

#: What a terminal obeys (C0 but for tab and newline, DEL, C1), what turns the direction of text,
#: what ends a line in Unicode, and lone surrogates, which no encoding can write.
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def escape(text: str) -> str:
    r"""Write control characters as escapes (``\x1b``); tabs and newlines stay."""
    return _UNFIT.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def text_of(value: object) -> str:
    """``str(value)``, escaped, and at most about 1,000 characters of it; never raises.

    An object whose text cannot be had is named by its type, with what its text raised.
    """
    try:
        text = str(value)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - an object of the user's
        return f"<{_type(value)} whose text raises {_type(error)}>"
    return escape(_shortened(text))


def error_text(error: BaseException) -> str:
    """An exception as ``Type: text``, or ``Type`` where it has no text; never raises."""
    text = text_of(error)
    return f"{_type(error)}: {text}" if text else _type(error)


def single_line(text: str, longest: int) -> str:
    """The same text with its white space drawn together, cut at so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 3].rstrip() + "..."


def _type(value: object) -> str:
    """The name of its type, whatever ``__class__`` and a metaclass make of it."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return escape(name)


def _shortened(text: str) -> str:
    left = len(text) - _FIRST - _LAST
    if left <= 0:
        return text
    return f"{text[:_FIRST]} ... ({left:,} more characters) ... {text[-_LAST:]}"
