"""The journal's writing end: one line, one `os.write`, to a descriptor opened with `O_APPEND`.

The lines are JSON; they are put together by hand since `json` costs milliseconds of start-up.
"""

import os

from .clock import monotonic_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Value = int | str | Sequence[int] | Sequence[Sequence[int]]


EXIT, STOP, POWEROFF = "exit", "stop", "poweroff"
"""Why a VM flushes: it ends after it, or it stays, stopped or powered off."""

LONGEST = 200  # characters of a text from outside; the rest says no more


class Record:
    """An open journal; several processes of one fake may write to the same file."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, event: str, **fields: "Value") -> None:
        """Append one line, stamped now."""
        text = "".join(f', "{name}": {_json(value)}' for name, value in fields.items())
        line = f'{{"ns": {monotonic_ns()}, "event": "{event}"{text}}}\n'
        rest = line.encode("ascii")
        while rest:  # a full file system takes a part of it, and refuses the rest
            rest = rest[os.write(self._fd, rest) :]

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        """Let go of the journal; a process that ends need not."""
        os.close(self._fd)


def printable(text: str) -> str:
    """Return text from outside in printable ASCII, shortened to 200 characters."""
    shown = "".join(
        each if " " <= each <= "~" else each.encode("unicode_escape").decode()
        for each in text[: LONGEST + 1]
    )
    return shown if len(shown) <= LONGEST else shown[:LONGEST] + "..."


def _json(value: "Value") -> str:
    if isinstance(value, str):
        # printable ASCII: words of our own, or what `printable` has returned
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return "[" + ", ".join(map(_json, value)) + "]"
