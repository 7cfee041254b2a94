"""Knobs as text: what is typed on a command line, in the environment or in an ini file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .behaviour import Crash, Stall, Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CALL = re.compile(
    r"(?P<word>crash|stall|stop)\s*[:(]\s*(?P<arguments>[^()]*?)\s*\)?", re.IGNORECASE
)
_TRUTH = {"true": True, "yes": True, "on": True, "1": True} | {
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_NUMBERS: Mapping[str, Callable[[str], float]] = {
    **dict.fromkeys(
        ("flush_time", "linger", "ready_after", "reaper_delay", "survives_kill"), float
    ),
    **dict.fromkeys(("blocks", "block_size", "exit_status", "helpers", "seed"), int),
}


def read(name: str, text: str) -> object:
    """Return what `text` means for this knob.

    `crash:at=3,exit=1`, `crash:at=3,signal=9`, `stall:at=3,seconds=2` and `stop:at=3` are the
    spellings for a shell; `Crash(at=3, exit=1)` is understood, too. What means nothing comes
    back as it is, so that the check of the knobs can say what would have been right.
    """
    text = text.strip()
    if name in _NUMBERS:
        return _number(_NUMBERS[name], text)
    if name in ("torn", "disk_lock", "reuse_pid", "qmp"):
        return _TRUTH.get(text.lower(), text)
    if name == "helper":
        return frozenset(trait.strip() for trait in text.split(",") if trait.strip())
    if name in ("on_term", "flush_profile"):
        return _behaviour(text)
    return text


def _number(kind: Callable[[str], float], text: str) -> object:
    try:
        return kind(text)
    except ValueError:
        return text


def _behaviour(text: str) -> object:  # noqa: PLR0911  # one for each spelling
    call = _CALL.fullmatch(text)
    if call is None:
        return text
    arguments: dict[str, str] = {}
    for part in call["arguments"].split(","):
        key, _, value = part.partition("=")
        arguments[key.strip()] = value.strip()
    try:
        match call["word"].lower(), sorted(arguments):
            case "crash", ["at", "exit"]:
                return Crash(at=int(arguments["at"]), exit=int(arguments["exit"]))
            case "crash", ["at", "signal"]:
                return Crash(at=int(arguments["at"]), signal=int(arguments["signal"]))
            case "stall", ["at", "seconds"]:
                return Stall(at=int(arguments["at"]), seconds=float(arguments["seconds"]))
            case "stop", ["at"]:
                return Stop(at=int(arguments["at"]))
            case _:
                return text
    except ValueError:
        return text
