"""What is kept of a trial beside its history: verdicts, circumstances, disk; as `report.json`.

The file says what it is (`"format": "gracekill-report"`) and in which version. Everything in it is
plain JSON, so that another Python, and another year, reads the same. A file that lacks something,
or has something else in its place, is a usage error that names the file and what is wrong.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pytest_gracekill.errors import UsageError
from pytest_gracekill.render.reading import DamagedError, Reading
from pytest_gracekill.report import VERDICTS, Moment, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT = "gracekill-report"
VERSION = 1

#: What can be wrong with blocks, in the order in which it is told.
DAMAGES = ("lost", "torn", "stale", "phantom")


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """One call of the routine: by which thread, from when until when, and what came of it."""

    actor: str
    called_ns: int
    returned_ns: int
    cut_off: bool
    told: str

    def __str__(self) -> str:
        return f"{self.actor}: {self.told}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a schedule: which task did what, at which line, at which virtual time."""

    number: int
    task: str
    operation: str
    line: str
    at_ns: int

    def __str__(self) -> str:
        return f"{self.number}. {self.task}: {self.operation} ({self.line})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """What became of the blocks; each kind of damage by its block numbers."""

    blocks: int
    acknowledged: int
    damaged: Mapping[str, tuple[int, ...]]

    def __str__(self) -> str:
        told = [f"{len(numbers)} {kind}" for kind, numbers in self.damaged.items() if numbers]
        return (
            f"{self.acknowledged} of {self.blocks} blocks acknowledged, {', '.join(told) or 'ok'}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A trial, or an explored failure, as it was judged; times are those of its history.

    ``clock`` is ``"monotonic"``, or ``"virtual"`` for an explored schedule, whose ``steps`` are
    numbered. ``title`` is the test, ``facts`` are further things to tell, by name.
    ``flush_total``: seconds that the flush needs, None where it never ends or is not known.
    """

    headline: str
    ok: bool
    verdicts: tuple[Verdict, ...] = ()
    not_judged: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    routine: str = ""
    policy: str | None = None
    knobs: Mapping[str, object] = field(default_factory=dict)
    flush_total: float | None = None
    survive: float | None = None
    disk: Disk | None = None
    calls: tuple[Called, ...] = ()
    clock: Literal["monotonic", "virtual"] = "monotonic"
    steps: tuple[Step, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.headline

    def write(self, path: Path) -> None:
        """Write it as JSON; `load` reads it back."""
        rows = {"format": FORMAT, "version": VERSION, **_rows(self)}
        path.write_text(
            json.dumps(rows, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8"
        )


def load(path: Path) -> Record:
    """Read a record that `write` wrote.

    :raises UsageError: it is anything else; the text names the file and what is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(f"{path} is not there: nothing was saved here by this plugin") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    try:
        return _record(Reading.of(text))
    except DamagedError as error:
        raise UsageError(f"{path} is not the report of a trial: {error}") from error


def _rows(record: Record) -> dict[str, object]:
    disk = record.disk
    return {
        "title": record.title,
        "headline": record.headline,
        "ok": record.ok,
        "routine": record.routine,
        "policy": record.policy,
        "knobs": dict(record.knobs),
        "flush_total": record.flush_total,
        "survive": record.survive,
        "clock": record.clock,
        "facts": dict(record.facts),
        "verdicts": [
            {
                "name": verdict.name,
                "status": verdict.status,
                "word": verdict.word,
                "also": list(verdict.also),
                "summary": verdict.summary,
                "evidence": verdict.evidence,
                "detail": list(verdict.detail),
                "advice": verdict.advice,
                "moments": [
                    {
                        "word": moment.word,
                        "lane": moment.lane,
                        "at_ns": moment.at_ns,
                        "until_ns": moment.until_ns,
                        "text": moment.text,
                    }
                    for moment in verdict.moments
                ],
            }
            for verdict in record.verdicts
        ],
        "not_judged": dict(record.not_judged),
        "disk": None
        if disk is None
        else {
            "blocks": disk.blocks,
            "acknowledged": disk.acknowledged,
            **{kind: list(disk.damaged.get(kind, ())) for kind in DAMAGES},
        },
        "calls": [
            {
                "actor": call.actor,
                "called_ns": call.called_ns,
                "returned_ns": call.returned_ns,
                "cut_off": call.cut_off,
                "told": call.told,
            }
            for call in record.calls
        ],
        "steps": [
            {
                "number": step.number,
                "task": step.task,
                "operation": step.operation,
                "line": step.line,
                "at_ns": step.at_ns,
            }
            for step in record.steps
        ],
    }


def _record(read: Reading) -> Record:
    if read.text_or_none("format") != FORMAT:
        raise DamagedError(f'it has no "format": "{FORMAT}"')
    if read.integer("version") != VERSION:
        raise DamagedError(f"its version is {read.integer('version')}, this one reads {VERSION}")
    return Record(
        title=read.text("title"),
        headline=read.text("headline"),
        ok=read.truth("ok"),
        routine=read.text("routine"),
        policy=read.text_or_none("policy"),
        knobs=read.mapping("knobs"),
        flush_total=read.seconds_or_none("flush_total"),
        survive=read.seconds_or_none("survive"),
        clock="virtual"
        if read.one_of("clock", ("monotonic", "virtual")) == "virtual"
        else "monotonic",
        facts=read.texts_by_name("facts"),
        verdicts=tuple(_verdict(row) for row in read.rows("verdicts")),
        not_judged=read.texts_by_name("not_judged"),
        disk=None if (disk := read.row_or_none("disk")) is None else _disk(disk),
        calls=tuple(
            Called(
                actor=row.text("actor"),
                called_ns=row.integer("called_ns"),
                returned_ns=row.integer("returned_ns"),
                cut_off=row.truth("cut_off"),
                told=row.text("told"),
            )
            for row in read.rows("calls")
        ),
        steps=tuple(
            Step(
                number=row.integer("number"),
                task=row.text("task"),
                operation=row.text("operation"),
                line=row.text("line"),
                at_ns=row.integer("at_ns"),
            )
            for row in read.rows("steps")
        ),
    )


def _verdict(row: Reading) -> Verdict:
    status = row.one_of("status", ("ok", "broken", "unknown"))
    return Verdict(
        name=row.one_of("name", VERDICTS),
        status="ok" if status == "ok" else "broken" if status == "broken" else "unknown",
        word=row.text("word"),
        also=tuple(row.texts("also")),
        summary=row.text("summary"),
        evidence=row.text("evidence"),
        detail=tuple(row.texts("detail")),
        advice=row.text("advice"),
        moments=tuple(
            Moment(
                word=moment.text("word"),
                lane=moment.text("lane"),
                at_ns=moment.integer("at_ns"),
                until_ns=moment.integer_or_none("until_ns"),
                text=moment.text("text"),
            )
            for moment in row.rows("moments")
        ),
    )


def _disk(row: Reading) -> Disk:
    return Disk(
        blocks=row.integer("blocks"),
        acknowledged=row.integer("acknowledged"),
        damaged={kind: tuple(row.integers(kind)) for kind in DAMAGES},
    )
