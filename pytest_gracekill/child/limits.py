"""Which values a knob takes, and which knobs contradict each other."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeGuard

from .behaviour import Crash, Stall, Stop

LONGEST = 1e6  # seconds; more is a slip of the unit, and overflows what the kernel can wait for
MOST_BLOCKS, LARGEST_BLOCK, SECTOR, MOST_HELPERS = 65536, 1 << 20, 512, 64

WORDS: Mapping[str, tuple[str, ...]] = {
    "flush_profile": ("constant", "slowing", "never"),
    "guest": ("idle", "writing", "flushing"),
    "on_term": ("flush", "ignore", "default", "exit", "refuse"),
    "on_second_term": ("ignore", "abort", "restart"),
    "inherit": ("none", "blocked", "ignored"),
    "topology": ("child", "reaped", "zombie", "daemon", "wrapped", "leaderless"),
}
TRAITS = ("session", "ignores_term", "holds_stdout", "holds_lock")

# signals whose default action does not end a process
_HARMLESS = {"SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU"}


def fault(name: str, value: object) -> str | None:
    """Say what this knob takes, when `value` is not of that kind."""
    return _CHECKS[name](name, value)


def contradiction(values: Mapping[str, object]) -> tuple[tuple[str, ...], str] | None:
    """Return the names of knobs that cannot go together, and why; each value alone is right."""
    for names, wrong, why in _CONTRADICTIONS:
        if wrong(values):
            return names, why
    return None


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _seconds(_name: str, value: object) -> str | None:
    number = value if isinstance(value, float) or _is_int(value) else math.nan
    if 0 <= number <= LONGEST:
        return None
    return f"seconds from 0 to {LONGEST:.0f}, a finite int or float"


def _whole(low: int, high: int) -> Callable[[str, object], str | None]:
    def check(_name: str, value: object) -> str | None:
        return None if _is_int(value) and low <= value <= high else f"an int from {low} to {high}"

    return check


def _truth(_name: str, value: object) -> str | None:
    return None if isinstance(value, bool) else "True or False"


def _word(name: str, value: object) -> str | None:
    words = WORDS[name]
    return None if isinstance(value, str) and value in words else "one of " + quoted(words)


def _block_size(_name: str, value: object) -> str | None:
    if _is_int(value) and SECTOR <= value <= LARGEST_BLOCK and value % SECTOR == 0:
        return None
    return f"bytes, a multiple of {SECTOR} from {SECTOR} to {LARGEST_BLOCK}"


def _profile(name: str, value: object) -> str | None:
    if isinstance(value, Stall):
        if not _is_int(value.at):
            return "a Stall whose block `at` is an int"
        wrong = _seconds("seconds", value.seconds)
        return f"a Stall with {wrong}" if wrong else None
    wrong = _word(name, value)
    return f"{wrong}, or Stall(at=BLOCK, seconds=SECONDS)" if wrong else None


def _on_term(name: str, value: object) -> str | None:
    if isinstance(value, Crash | Stop) and not _is_int(value.at):
        return f"a {type(value).__name__} whose block `at` is an int"
    if isinstance(value, Crash):
        return _crash(value)
    if isinstance(value, Stop):
        return None
    wrong = _word(name, value)
    return (
        f"{wrong}, or Crash(at=BLOCK, exit=N), Crash(at=BLOCK, signal=N), Stop(at=BLOCK)"
        if (wrong)
        else None
    )


def _crash(crash: Crash) -> str | None:
    if (crash.exit is None) == (crash.signal is None):
        return "a Crash with either exit=STATUS or signal=NUMBER"
    if crash.signal is None:
        wrong = _whole(0, 255)("exit", crash.exit)
        return f"a Crash whose exit is {wrong}" if wrong else None
    deadly = {int(number) for number in signal.valid_signals() if _name_of(number) not in _HARMLESS}
    if _is_int(crash.signal) and crash.signal in deadly:
        return None
    return "a Crash whose signal is the number of one that ends a process, such as 6, 9 or 11"


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)  # a real-time signal


def _traits(_name: str, value: object) -> str | None:
    # a collection: looking at an iterator would use it up
    if isinstance(value, Collection) and all(trait in TRAITS for trait in value):
        return None
    return "a set of " + quoted(TRAITS)


def _beyond(knob: str) -> Callable[[Mapping[str, object]], bool]:
    def wrong(values: Mapping[str, object]) -> bool:
        at, blocks = getattr(values[knob], "at", 0), values["blocks"]
        return not (isinstance(blocks, int) and 0 <= at < blocks)

    return wrong


def quoted(words: Iterable[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)


_CHECKS: Mapping[str, Callable[[str, object], str | None]] = {
    "flush_time": _seconds,
    "blocks": _whole(1, MOST_BLOCKS),
    "block_size": _block_size,
    "flush_profile": _profile,
    "guest": _word,
    "torn": _truth,
    "on_term": _on_term,
    "on_second_term": _word,
    "exit_status": _whole(0, 255),
    "linger": _seconds,
    "ready_after": _seconds,
    "inherit": _word,
    "topology": _word,
    "reaper_delay": _seconds,
    "reuse_pid": _truth,
    "survives_kill": _seconds,
    "helpers": _whole(0, MOST_HELPERS),
    "helper": _traits,
    "disk_lock": _truth,
    "qmp": _truth,
    "seed": _whole(0, 2**32 - 1),
}

_AT = "the block `at` has to be one of the disk's, 0 to blocks - 1"
_CONTRADICTIONS: tuple[tuple[tuple[str, ...], Callable[[Mapping[str, object]], bool], str], ...] = (
    (("on_term", "blocks"), _beyond("on_term"), _AT),
    (("flush_profile", "blocks"), _beyond("flush_profile"), _AT),
    (
        ("reuse_pid", "topology"),
        lambda knobs: bool(knobs["reuse_pid"]) and knobs["topology"] != "reaped",
        'only a pid that somebody else has reaped is free again: topology="reaped"',
    ),
    (
        ("survives_kill", "topology"),
        lambda knobs: bool(knobs["survives_kill"]) and knobs["topology"] == "leaderless",
        "a process without its main thread cannot be held at its exit",
    ),
    (
        ("helper", "helpers"),
        lambda knobs: bool(knobs["helper"]) and not knobs["helpers"],
        "traits need helpers=1 or more",
    ),
    (
        ("helper", "disk_lock"),
        lambda knobs: "holds_lock" in _set(knobs["helper"]) and not knobs["disk_lock"],
        'a helper that "holds_lock" needs disk_lock=True',
    ),
    (
        ("on_term", "flush_profile"),
        lambda knobs: (
            isinstance(knobs["on_term"], Crash | Stop) and knobs["flush_profile"] == "never"
        ),
        'no block is ever due with flush_profile="never"',
    ),
    (
        ("on_second_term", "on_term"),
        lambda knobs: (
            knobs["on_second_term"] != "ignore"
            and knobs["on_term"] in ("ignore", "default", "exit", "refuse")
        ),
        "there is no flush that a second signal could meet",
    ),
    (
        ("ready_after", "on_term"),
        lambda knobs: bool(knobs["ready_after"]) and knobs["on_term"] == "default",
        'the handlers never come with on_term="default"',
    ),
)


def _set(traits: object) -> frozenset[object]:
    return frozenset(traits) if isinstance(traits, Iterable) else frozenset()
