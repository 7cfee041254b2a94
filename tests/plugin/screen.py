"""A terminal, as far as pytest and the progress line use one: what it shows, and what it has shown.

`run` starts a command on a pseudo-terminal and reads all that comes.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: As wide as the longest line that an exploration shows.
ROWS, COLUMNS = 24, 120
_PARTS = re.compile(r"\x1b\[([\d;?]*)([A-Za-z])|\x1b([78DM])|(.)", re.DOTALL)


class Screen:
    """What a terminal shows. ``seen``: every text that the line under the cursor's has ever had."""

    def __init__(self, rows: int = ROWS, columns: int = COLUMNS) -> None:
        self.columns = columns
        self.lines = [[" "] * columns for _ in range(rows)]
        self.scrolled: list[str] = []
        self.row = self.column = 0
        self._kept = (0, 0)
        self.seen: list[str] = []

    def feed(self, text: str) -> None:
        """Show what was written."""
        for part in _PARTS.finditer(text):
            number, command, short, character = part.groups()
            if command:
                self._move(number, command)
            elif short:
                self._short(short)
            else:
                self._put(character)

    @property
    def text(self) -> str:
        """All that has been shown and is still there, from the first line that was."""
        lines = [*self.scrolled, *("".join(line).rstrip() for line in self.lines)]
        return "\n".join(lines).rstrip()

    def _put(self, character: str) -> None:
        if character == "\n":
            self._down()
        elif character == "\r":
            self.column = 0
        elif character == "\b":
            self.column = max(self.column - 1, 0)
        elif character.isprintable():
            if self.column == self.columns:
                self.column = 0
                self._down()
            self.lines[self.row][self.column] = character
            self.column += 1

    def _down(self) -> None:
        if self.row < len(self.lines) - 1:
            self.row += 1
            return
        self.scrolled.append("".join(self.lines.pop(0)).rstrip())
        self.lines.append([" "] * self.columns)

    def _move(self, number: str, command: str) -> None:
        times = int(number) if number.isdigit() else 1
        if command == "A":
            self.row = max(self.row - times, 0)
        elif command == "B":
            self.row = min(self.row + times, len(self.lines) - 1)
        elif command == "K":
            first = 0 if number == "2" else self.column
            self.lines[self.row][first:] = [" "] * (self.columns - first)
        elif command == "J":
            self.lines[self.row][self.column :] = [" "] * (self.columns - self.column)
            for row in range(self.row + 1, len(self.lines)):
                self.lines[row] = [" "] * self.columns
        elif command != "m":
            raise AssertionError(f"{number}{command}: not known here")

    def _short(self, command: str) -> None:
        if command == "7":
            self._kept = self.row, self.column
        elif command == "8":
            self.seen.append("".join(self.lines[self.row]).rstrip())
            self.row, self.column = self._kept
        elif command == "D":
            self._down()


def run(
    command: Sequence[str], cwd: Path, environment: Mapping[str, str], *, within: float
) -> tuple[Screen, str]:
    """What a command shows on a terminal, and all that it has written there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    written = b""
    deadline = time.monotonic() + within
    child = subprocess.Popen(
        list(command), cwd=cwd, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    try:
        os.close(theirs)
        ready = select.poll()
        ready.register(ours, select.POLLIN)
        while ready.poll(max(deadline - time.monotonic(), 0) * 1000):
            try:
                part = os.read(ours, 65536)
            except OSError:  # the last one has closed it
                break
            if not part:
                break
            written += part
        child.wait(max(deadline - time.monotonic(), 1.0))
    finally:
        child.kill()
        child.wait()
        os.close(ours)
    text = written.decode("utf-8", "replace")
    screen = Screen()
    screen.feed(text)
    return screen, text
