"""The folder of a trial's evidence: what is written into it, and how it is read again.

| file | what it is |
| --- | --- |
| `history.jsonl` | every event, one a line (`witness.history`) |
| `report.json` | verdicts, circumstances, disk (`render.record`) |
| `report.txt` | the table, for people |
| `timeline.html` | the page to open: verdicts and timeline (`render.page`) |
| `timeline.svg` | the timeline alone (`render.timeline`) |
| `trace.json` | the same for Perfetto and chrome://tracing (`render.trace`) |

The pictures are made from the first two alone, and can be made again from them.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Protocol, cast

from pytest_gracekill.errors import UsageError
from pytest_gracekill.render import record as records
from pytest_gracekill.render.record import DAMAGES, Called, Disk, Record, Step
from pytest_gracekill.report import VERDICTS
from pytest_gracekill.witness import recording
from pytest_gracekill.witness.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_gracekill.judgement import Judgement
    from pytest_gracekill.render.picture import Picture
    from pytest_gracekill.witness.history import Event

HISTORY = "history.jsonl"
REPORT = "report.json"
TEXT = "report.txt"
PAGE = "timeline.html"
PICTURE = "timeline.svg"
TRACE = "trace.json"


class Story(Protocol):
    """A history, as it was recorded or as it was read back."""

    @property
    def origin_ns(self) -> int: ...

    def events(self) -> list[Event]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """One trial, or one explored failure: what happened, and what was concluded."""

    story: Story
    record: Record

    def __str__(self) -> str:
        return str(self.record)


def record_of(report: Judgement, title: str = "") -> Record:
    """What is kept of a report beside its history."""
    about = report.circumstances
    calls = cast("Sequence[Mapping[str, object]]", about.get("calls", ()))
    steps = cast("Sequence[Mapping[str, object]]", about.get("steps", ()))
    return Record(
        title=title,
        headline=report.headline(),
        ok=report.ok,
        verdicts=tuple(report.verdicts[name] for name in VERDICTS if name in report.verdicts),
        not_judged=dict(report.not_judged),
        routine=str(about.get("routine", "")),
        policy=cast("str | None", about.get("policy")),
        knobs=cast("Mapping[str, object]", about.get("knobs", {})),
        flush_total=cast("float | None", about.get("flush_total")),
        survive=cast("float | None", about.get("survive")),
        disk=Disk(
            blocks=cast("int", about.get("blocks", len(report.disk.acknowledged))),
            acknowledged=len(report.disk.acknowledged),
            damaged={kind: tuple(getattr(report.disk, kind)) for kind in DAMAGES},
        ),
        calls=tuple(
            Called(
                actor=str(call["actor"]),
                called_ns=cast("int", call["called_ns"]),
                returned_ns=cast("int", call["returned_ns"]),
                cut_off=bool(call["cut_off"]),
                told=str(call["told"]),
            )
            for call in calls
        ),
        clock="virtual" if steps else "monotonic",
        steps=tuple(
            Step(
                number=cast("int", step["number"]),
                task=str(step["task"]),
                operation=str(step["operation"]),
                line=str(step["line"]),
                at_ns=cast("int", step["at_ns"]),
            )
            for step in steps
        ),
        facts={**cast("Mapping[str, str]", about.get("facts", {})), **_noted(report.notes)},
    )


def _noted(notes: Sequence[str]) -> dict[str, str]:
    return {"note": "; ".join(notes)} if notes else {}


def write(folder: Path, story: Story, record: Record, text: str) -> None:
    """Write the evidence; the folder is made, files of an earlier trial in it are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    # looked up once: a history has tens of thousands of places in the code
    kept = Recording(story.origin_ns, story.events())
    kept.write(folder / HISTORY)
    record.write(folder / REPORT)
    (folder / TEXT).write_text(f"{text}\n", encoding="utf-8")
    try:
        draw(folder, Saved(story=kept, record=record))
    except Exception as error:  # noqa: BLE001 - what was found is told, whatever its picture
        (folder / PAGE).write_text(_undrawn(error, text), encoding="utf-8")


def _undrawn(error: Exception, text: str) -> str:
    """The page of evidence that could not be drawn: a fault of ours, and the table all the same."""
    what = "".join(traceback.format_exception(error))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>not drawn</title>'
        f"</head><body><pre>{escape(text)}</pre><h1>This could not be drawn</h1>"
        "<p>Please report it, with the files beside this page.</p>"
        f"<pre>{escape(what)}</pre></body></html>\n"
    )


def draw(folder: Path, saved: Saved) -> Picture:
    """Make every picture of what was saved, into the same folder."""
    from pytest_gracekill.render.page import html  # noqa: PLC0415 - not for who only reads
    from pytest_gracekill.render.picture import picture_of  # noqa: PLC0415
    from pytest_gracekill.render.timeline.drawing import svg  # noqa: PLC0415
    from pytest_gracekill.render.trace import trace  # noqa: PLC0415

    picture = picture_of(saved)
    drawings = ((PAGE, html(picture)), (PICTURE, svg(picture)), (TRACE, trace(picture)))
    for name, drawn in drawings:
        (folder / name).write_text(drawn, encoding="utf-8")
    return picture


def load(folder: Path) -> Saved:
    """Read the evidence of a trial again.

    A folder of a version that wrote no `report.json` has a history, and its verdicts in words only.

    :raises UsageError: there is no evidence, or it is damaged; one error names the file.
    """
    if not (folder / HISTORY).is_file():
        what = "is no folder" if not folder.is_dir() else f"has no {HISTORY}"
        raise UsageError(f"{folder} {what}: no evidence of a trial was saved there")
    try:
        story = recording.load(folder / HISTORY)
    except OSError as error:
        raise UsageError(f"{folder / HISTORY} cannot be read: {error}") from error
    if (folder / REPORT).exists():
        return Saved(story=story, record=records.load(folder / REPORT))
    return Saved(story=story, record=_told(folder / TEXT))


def _told(path: Path) -> Record:
    """The headline of a trial whose verdicts were not saved."""
    try:
        first = path.read_text(encoding="utf-8").splitlines()[0]
    except (OSError, UnicodeDecodeError, IndexError):
        first = "gracekill: what was concluded was not saved"
    return Record(headline=first, ok=first == "gracekill: ok")
