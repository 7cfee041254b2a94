"""Numbers of things, as people read them."""

from __future__ import annotations


def counted(number: int, what: str, many: str = "") -> str:
    """So many of something; ``many`` is their name where an s more is not enough."""
    return f"1 {what}" if number == 1 else f"{number} {many or what + 's'}"
