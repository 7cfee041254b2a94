"""Fakes for these tests: started by their knobs, closed at the end, and waited for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill.child.handle import FakeQemu, spawn
from pytest_gracekill.child.knobs import Knobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_gracekill.child.journal import Entry

Spawn = Callable[..., FakeQemu]


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Spawn]:
    """Start fakes by their knobs, and close them at the end."""
    with contextlib.ExitStack() as stack:

        def start(**knobs: object) -> FakeQemu:
            directory = tmp_path / f"fake-{len(list(tmp_path.iterdir()))}"
            fake = spawn(Knobs.from_values(knobs), directory)
            stack.callback(fake.close)
            return fake

        yield start


def await_line(fake: FakeQemu, event: str, count: int = 1) -> Entry:
    """Wait for the `count`th line of this kind; a file gives no event that one could wait for."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = [entry for entry in fake.journal.entries() if entry.event == event]
        if len(found) >= count:
            return found[count - 1]
        time.sleep(0.002)
    pytest.fail(f"no line {count} of {event} in 20 s: {[str(e) for e in fake.journal.entries()]}")
