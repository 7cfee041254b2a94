"""Elements of SVG and HTML as text: attributes in the order given, everything escaped."""

from __future__ import annotations

import re
from html import escape

#: What no XML document may contain.
_IMPOSSIBLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def text(value: object) -> str:
    """A text for between tags, or for an attribute."""
    return escape(_IMPOSSIBLE.sub("\N{REPLACEMENT CHARACTER}", str(value)), quote=True)


def number(value: float) -> str:
    """A coordinate: a tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0")


def share(value: float) -> str:
    """A place between 0 and 1, fine enough to be zoomed into."""
    return f"{value:.6f}".rstrip("0").rstrip(".") or "0"


def element(name: str, inner: str = "", /, **attributes: str | float | None) -> str:
    """An element; ``class_`` is ``class``, other underscores are hyphens, None is left out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{given}>{inner}</{name}>" if inner else f"<{name}{given}/>"


def _attribute(value: str | float) -> str:
    return text(value) if isinstance(value, str) else number(value)
