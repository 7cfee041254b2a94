"""The page over all evidence below a folder: a row a trial, with its words and its picture.

Written at the end of a run, by one process, from what is there: with xdist, the workers have each
written folders of their own. What earlier runs have left there is listed, too, with its time.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from pytest_gracekill.counted import counted
from pytest_gracekill.errors import UsageError
from pytest_gracekill.render import record as records
from pytest_gracekill.render.folder import PAGE, PICTURE, REPORT
from pytest_gracekill.render.page.compose import asset
from pytest_gracekill.render.timeline.marking import text

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gracekill.render.record import Record

INDEX = "index.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The evidence of one trial: where it is below the index, and when it was written."""

    path: str
    record: Record
    written: float

    def __str__(self) -> str:
        return f"{self.path}: {self.record}"


def write(root: Path) -> Path | None:
    """Write the index of what is below a folder; None where there is no evidence."""
    found = entries(root)
    if not found:
        return None
    path = root / INDEX
    # whoever looks at it meanwhile sees the old one or the new one
    fresh = root / f".{INDEX}.{os.getpid()}"
    try:
        fresh.write_text(page(found), encoding="utf-8")
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    return path


def entries(root: Path) -> list[Entry]:
    """The evidence below a folder, by its path; what is damaged is no evidence."""
    found = []
    for report in sorted(root.rglob(REPORT)):
        try:
            record = records.load(report)
            written = report.stat().st_mtime
        except (UsageError, OSError):
            continue
        path = report.parent.relative_to(root).as_posix()
        found.append(Entry(path=path, record=record, written=written))
    return found


def page(found: list[Entry]) -> str:
    """The index itself: what went wrong first."""
    wrong = [entry for entry in found if not entry.record.ok]
    right = [entry for entry in found if entry.record.ok]
    title = f"gracekill: {_counted(found)}, {len(wrong)} not ok"
    rows = "".join(_row(entry) for entry in (*wrong, *right))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{text(title)}</title><style>{asset('page.css')}</style></head>\n<body>\n"
        f"<header><h1>{text(title)}</h1></header>\n<main class='index'><table><caption>"
        "Each leads to its verdicts and its timeline.</caption><thead><tr>"
        '<th scope="col">test</th><th scope="col">what was'
        f' found</th><th scope="col">written</th></tr></thead><tbody>{rows}</tbody></table></main>'
        "\n</body>\n</html>\n"
    )


def _counted(found: list[Entry]) -> str:
    """How many trials there are, and how many explored schedules, which are none."""
    explored = sum(entry.record.clock == "virtual" for entry in found)
    trials = len(found) - explored
    told = []
    if trials or not explored:
        told.append(counted(trials, "trial"))
    if explored:
        told.append(counted(explored, "explored schedule"))
    return ", ".join(told)


def _row(entry: Entry) -> str:
    record = entry.record
    link = quote(f"{entry.path}/{PAGE}" if entry.path != "." else PAGE)
    image = quote(f"{entry.path}/{PICTURE}" if entry.path != "." else PICTURE)
    name = record.title or entry.path
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.written))
    shown = f"<p>{text(record.headline.removeprefix('gracekill: '))}</p>"
    if not record.ok:
        shown += f'<p><img class="small" loading="lazy" alt="" src="{text(image)}"></p>'
    return (
        f'<tr class="{"ok" if record.ok else "broken"}"><th scope="row"><a href="{text(link)}">'
        f"{text(name)}</a><br><small>{text(entry.path)}</small></th>"
        f"<td>{shown}</td><td><small>{when}</small></td></tr>"
    )
