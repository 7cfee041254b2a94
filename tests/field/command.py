"""The command: measure the table, print it, and write the page "How today's tools do".

Each trial runs in a process of its own, several at once, since nearly all of it is waiting. The
figures go into `docs/todays-tools.json`, from which the page is made.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from . import figures, survey
from .measuring import Cell, measure
from .table import SHIPPED

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "docs" / "todays-tools.json"
PAGE = ROOT / "docs" / "todays-tools.md"

#: Seconds for one trial on a machine that is not drowned.
LONGEST = 120.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 0 when every figure agrees with the survey's, or the difference is explained."""
    chosen = _parser().parse_args(arguments)
    if chosen.cell:
        key, flush_time = chosen.cell
        return _one(key, float(flush_time))
    unknown = [key for key in chosen.routines if key not in SHIPPED]
    if unknown:
        _say(f"there is no routine {unknown[0]!r}; there are: {', '.join(SHIPPED)}")
        return 2
    keys = chosen.routines or list(SHIPPED)
    for key in keys:
        if SHIPPED[key].missing:
            _say(f"left out: {key}: {SHIPPED[key].missing}")
    keys = [key for key in keys if not SHIPPED[key].missing]
    rows = figures.rows(_all(keys, chosen.jobs))
    _say(figures.shown(rows))
    if not chosen.routines:
        _write(rows)
    strayed = [row for row in rows if row.strays and not row.explained]
    for row in strayed:
        _say(f"{row.key}: {row.lost} is not what the survey has, {row.survey}; explain it")
    return 1 if strayed else 0


def _parser() -> argparse.ArgumentParser:
    routines = "\n".join(f"  {shipped.key:<22}{shipped.call}" for shipped in SHIPPED.values())
    parser = argparse.ArgumentParser(
        prog="python tests/field",
        description="Measure what routines that others ship do to a VM that flushes slowly, and"
        f" write {PAGE.relative_to(ROOT)}. It takes two minutes, nearly all of it waiting.",
        epilog=f"routines:\n{routines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "routines", nargs="*", metavar="ROUTINE", help="only print these (default: all, written)"
    )
    parser.add_argument(
        "--jobs", type=int, default=8, metavar="N", help="trials at once (default: 8)"
    )
    # one trial, as this command starts itself for each
    parser.add_argument("--cell", nargs=2, metavar=("ROUTINE", "SECONDS"), help=argparse.SUPPRESS)
    return parser


def _one(key: str, flush_time: float) -> int:
    logging.disable()  # some tools log as they kill
    with tempfile.TemporaryDirectory(prefix="gracekill-field-") as folder:
        cell = measure(SHIPPED[key], flush_time, Path(folder))
    _say(json.dumps(dataclasses.asdict(cell)))
    return 0


def _all(keys: Sequence[str], jobs: int) -> list[Cell]:
    """Every cell, those that take longest first; they come back in the table's order."""
    times = sorted(survey.FLUSH_TIMES, reverse=True)
    wanted = [(key, flush_time) for flush_time in times for key in keys]
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda pair: _started(*pair), wanted))


def _started(key: str, flush_time: float) -> Cell:
    done = subprocess.run(
        [sys.executable, Path(__file__).parent, "--cell", key, str(flush_time)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{key} at {flush_time} s: exit {done.returncode}\n{done.stderr}")
    cell = Cell(**json.loads(done.stdout.splitlines()[-1]))
    _say(str(cell))
    return cell


def _write(rows: Sequence[figures.Row]) -> None:
    FIGURES.write_text(figures.as_json(rows), encoding="utf-8")
    sys.path.insert(0, str(ROOT))
    from docs import generate

    source = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(generate.with_regions(source), encoding="utf-8")
    _say(f"written: {FIGURES.relative_to(ROOT)}, {PAGE.relative_to(ROOT)}")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the command's output, a line as soon as it is known
