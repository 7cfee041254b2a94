"""Signals that a forked child of the test's process sends, by way of a file.

The child has a copy of the recorder, and its list is lost with it. It may have closed every
descriptor, so the file is opened by its name for each signal; a line is appended at once.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from pytest_gracekill.data.requests import Unheard
from pytest_gracekill.witness.history import Frame
from pytest_gracekill.witness.sent_signal import SentSignal

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


class ForkedSignals:
    """The file, which is made by the first signal of a child."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = path.stat().st_size if path.exists() else 0  # of a trial before

    def note(self, sent: SentSignal) -> None:
        """Append a record; called in the child."""
        line = json.dumps(asdict(sent)) + "\n"
        # a child without the rights, or in a root of its own, is not seen
        with suppress(OSError):
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, line.encode())
            finally:
                os.close(fd)

    def take(self) -> list[SentSignal]:
        """Read what has been appended since the last time; called in the parent."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                data = file.read()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        return [_record(json.loads(line)) for line in whole.splitlines()]


def _record(fields: dict[str, Any]) -> SentSignal:
    site = cast("dict[str, Any] | None", fields.pop("site"))
    unheard = cast("dict[str, Any] | None", fields.pop("unheard"))
    return SentSignal(
        **{**fields, "held": tuple(fields["held"])},
        site=None if site is None else Frame(**site),
        unheard=None if unheard is None else Unheard(**unheard),
    )
