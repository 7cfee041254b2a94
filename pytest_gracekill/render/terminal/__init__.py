"""The picture as text: at most 20 lines of 100 columns, for a terminal and for a failure's text."""

from __future__ import annotations

from pytest_gracekill.render.terminal.drawing import COLUMNS, LINES, terminal

__all__ = ["COLUMNS", "LINES", "terminal"]
