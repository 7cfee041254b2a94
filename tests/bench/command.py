"""The command: which figures, how many rounds, on what machine."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import textwrap
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .figure import Figure

FIGURES = {
    "promptness": "lag of the routine's return after the VM's exit",
    "start": "the fake ready, beside a bare Python",
    "plugin": "the plugin's share of pytest's start",
    "contenders": "operations of contenders with traced and with plain locks",
    "pair": "an uncontended traced lock, taken and given back",
    "audit": "what the audit hook costs in each auditing event",
    "real": "what a trial on a real QEMU costs beside its wait",
    "deadlock": "from the acquire that closes a cycle to the report of it",
    "exploration": "schedules per second, beside frontrun on the same program",
    "picture": "saved evidence, read and drawn again",
}


class Measure(Protocol):
    """What each module has: measure so many rounds, with a folder for what that needs."""

    def __call__(self, rounds: int, folder: Path) -> Sequence[Figure]: ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0 when every promise that was measured holds, else 1."""
    chosen = _parser().parse_args(arguments)
    unknown = [name for name in chosen.figures if name not in FIGURES]
    if unknown:
        _say(f"there is no figure {unknown[0]!r}; there are: {', '.join(FIGURES)}")
        return 2
    if sys.platform != "linux":
        _say("the fake needs Linux, and so do the figures")
        return 2
    _say(_machine())
    held: list[bool] = []
    for name in chosen.figures or FIGURES:
        module = import_module(f"{__package__}.{name}")
        measure = cast("Measure", module.measure)
        _say(f"\n{name}: {FIGURES[name]}")
        _say(textwrap.indent((module.__doc__ or "").strip(), "  "))
        with tempfile.TemporaryDirectory() as folder:
            for figure in measure(chosen.rounds, Path(folder)):
                _say(str(figure))
                if figure.promise is not None:
                    held.append(figure.holds)
    _say(f"\n{held.count(True)} of {len(held)} promises hold")
    return 0 if all(held) else 1


def _parser() -> argparse.ArgumentParser:
    names = "\n".join(f"  {name:<12}{what}" for name, what in FIGURES.items())
    parser = argparse.ArgumentParser(
        prog="python tests/bench",
        description="Print the project's figures with their spread, each beside its promise.",
        epilog=f"figures:\n{names}\n\nOn idle cores: what runs beside it is measured, too.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="which (default: all)")
    parser.add_argument(
        "--rounds", type=_rounds, default=31, metavar="N", help="samples of each (default: 31)"
    )
    return parser


def _rounds(text: str) -> int:
    rounds = int(text)
    if rounds < 1:
        raise argparse.ArgumentTypeError(f"{rounds} rounds: 1 or more are needed")
    return rounds


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the command's output, a line as soon as it is known


def _machine() -> str:
    load = os.getloadavg()[0]
    return (
        f"Python {platform.python_version()}, pytest {version('pytest')},"
        f" {platform.system()} {platform.release()}, {os.cpu_count()} cores,"
        f" load {load:.1f} at the start\n"
        "min, median and max of all rounds; what is compared is measured in turn. The median is\n"
        'held against the promise; "(noise)": the spread is too wide to tell on which side it is'
        + ("\nthe cores are not idle: expect wide spreads" if load > 1 else "")
    )
