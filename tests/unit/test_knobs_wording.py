"""Knobs as text mean the same as knobs as values."""

import pytest

from pytest_gracekill.child.knobs import Crash, Knobs, Stall, Stop
from pytest_gracekill.child.wording import read
from pytest_gracekill.errors import UsageError


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("flush_time", "0.5", 0.5),
        ("flush_time", " 2 ", 2.0),
        ("blocks", "8", 8),
        ("torn", "true", True),
        ("torn", "No", False),
        ("disk_lock", "0", False),
        ("helper", "session, holds_lock", frozenset({"session", "holds_lock"})),
        ("helper", "", frozenset()),
        ("guest", "writing", "writing"),
        ("on_term", "ignore", "ignore"),
        ("on_term", "crash:at=3,exit=1", Crash(at=3, exit=1)),
        ("on_term", "Crash(at=3, signal=9)", Crash(at=3, signal=9)),
        ("on_term", "stop:at=3", Stop(at=3)),
        ("flush_profile", "stall:at=3,seconds=2.5", Stall(at=3, seconds=2.5)),
        ("flush_profile", str(Stall(at=3, seconds=2.5)), Stall(at=3, seconds=2.5)),
    ],
)
def test_text_is_read(name: str, text: str, value: object) -> None:
    assert read(name, text) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("flush_time", "fast"),
        ("flush_time", "nan"),
        ("blocks", "1.5"),
        ("torn", "maybe"),
        ("helper", "sessions"),
        ("on_term", "crash"),
        ("on_term", "crash:at=3"),
        ("on_term", "crash:at=3,exit=1,signal=9"),
        ("on_term", "crash:at=x,exit=1"),
        ("on_term", "stall:at=3,seconds=1"),
        ("flush_profile", "stall:at=3"),
    ],
)
def test_text_that_means_nothing_fails_the_check_with_its_source(name: str, text: str) -> None:
    with pytest.raises(UsageError, match="from --option"):
        Knobs.from_values({"helpers": 1, name: read(name, text)}, {name: "--option"})
