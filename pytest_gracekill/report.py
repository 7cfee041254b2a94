"""What a trial returns: verdicts with their evidence, and everything that was seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pytest_gracekill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_gracekill.child.disk import Audit
    from pytest_gracekill.witness.history import History

Status = Literal["ok", "broken", "unknown"]

#: Every verdict there is, in the order in which they are told.
VERDICTS = (
    "data",
    "escalation",
    "outcome",
    "promptness",
    "deadlock",
    "locks",
    "progress",
    "identity",
    "leftovers",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When and where what a word says can be seen, for whoever draws it.

    ``lane`` is ``"fake"``, ``"signals"``, ``"lock NAME"`` or ``"thread NAME"``. Times are those of
    the history, in nanoseconds; ``until_ns`` is None where it is an instant.
    """

    word: str
    lane: str
    at_ns: int
    until_ns: int | None = None
    text: str = ""

    def __str__(self) -> str:
        return f"{self.word} in {self.lane} at {self.at_ns}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was concluded about one promise, with one line of evidence.

    ``word`` is ``"ok"``, ``"unknown"`` or the (first) word of what is broken; ``also`` holds
    further broken words of the same verdict. ``summary`` is what the headline adds behind the word,
    ``advice`` what to change, ``detail`` further lines of evidence (stacks, chains). ``moments``:
    where in the history the broken words can be seen.
    """

    name: str
    status: Status
    word: str
    evidence: str
    also: tuple[str, ...] = ()
    summary: str = ""
    advice: str = ""
    detail: tuple[str, ...] = ()
    moments: tuple[Moment, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.headline} ({self.evidence})"

    @property
    def headline(self) -> str:
        """The words of this verdict as the first line of a failure tells them."""
        first = f"{self.word} {self.summary}" if self.summary else self.word
        if self.status == "unknown":
            first = f"UNKNOWN {self.name}"
        return ", ".join((first, *self.also))


@dataclass(frozen=True, slots=True, kw_only=True)
class NotJudged:
    """A verdict that cannot apply to this trial, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: not judged ({self.reason})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of the routine: what it returned or raised, and how long it took, in seconds.

    ``success`` is what the call claimed, ``None`` when it was cut off. ``elapsed`` then is the time
    until the cut.
    """

    success: bool | None
    result: object
    error: BaseException | None
    elapsed: float

    def __str__(self) -> str:
        if self.success is None:
            return f"cut off after {self.elapsed:.3f} s"
        if self.error is not None:
            return f"raised {type(self.error).__name__}: {self.error}"
        try:
            return f"returned {self.result}"
        except Exception as error:  # noqa: BLE001 - a result of the user's, whatever its text raises
            return f"returned a {type(self.result).__name__} ({type(error).__name__} for its text)"


@dataclass(frozen=True, kw_only=True)
class Report:
    """One trial, judged. ``str()`` is the table, ``repr()`` one line; ``check()`` asserts.

    ``clean_up`` is what the adapter raised in its clean-up, when the trial had found something
    itself. ``circumstances``: the routine, the knobs, the calls, as plain data.
    """

    verdicts: Mapping[str, Verdict]
    not_judged: Mapping[str, str]
    disk: Audit
    calls: tuple[Call, ...]
    history: History = field(repr=False)
    longest_stall: float | None = None
    sigkill_sent: bool = False
    clean_up: Exception | None = None
    circumstances: Mapping[str, object] = field(default_factory=dict, repr=False)
    saved: list[Path] = field(default_factory=list, repr=False)

    def __str__(self) -> str:
        from pytest_gracekill.render.text import table  # noqa: PLC0415 - render reads reports

        return table(self)

    def __repr__(self) -> str:
        return f"<Report {self.headline()}>"

    @property
    def ok(self) -> bool:
        """True when every verdict that was judged is ``ok``; unknown is not ok."""
        return all(verdict.status == "ok" for verdict in self.verdicts.values())

    @property
    def result(self) -> object:
        """What the (first) call of the routine returned; ``None`` when it raised."""
        return self.calls[0].result

    @property
    def error(self) -> BaseException | None:
        """What the (first) call of the routine raised, if it did."""
        return self.calls[0].error

    @property
    def elapsed(self) -> float:
        """How long the (first) call of the routine took, in seconds."""
        return self.calls[0].elapsed

    def headline(self, *names: str) -> str:
        """Every word that is not ``ok`` in one line: pytest's ``--tb=line`` shows only this."""
        chosen = names or tuple(self.verdicts)
        words = [
            self.verdicts[name].headline
            for name in VERDICTS
            if name in chosen and name in self.verdicts and self.verdicts[name].status != "ok"
        ]
        words += [f"NOT JUDGED {name}" for name in names if name in self.not_judged]
        return "gracekill: " + (", ".join(words) or "ok")

    def check(self, *names: str) -> None:
        """Fail unless every verdict (or every one that is named) is ``ok``.

        :raises AssertionError: a verdict is broken or unknown, or one that was asked for by name
            could not be judged in this trial; the text is the whole table.
        :raises UsageError: there is no verdict of that name.
        """
        __tracebackhide__ = True
        for name in names:
            if name not in VERDICTS:
                raise UsageError(
                    f"there is no verdict {name!r}; those that are judged: {', '.join(VERDICTS)}",
                    source="report.check()",
                )
        chosen = names or tuple(self.verdicts)
        if all(name in self.verdicts and self.verdicts[name].status == "ok" for name in chosen):
            return
        from pytest_gracekill.render.text import failure  # noqa: PLC0415 - render reads reports

        raise AssertionError(failure(self, names))

    def save(self, directory: str | Path, *, title: str = "") -> Path:
        """Write the evidence, and its picture: ``timeline.html`` is the file to open.

        Beside it are ``timeline.svg``, ``trace.json`` for Perfetto, and what all are made from:
        ``history.jsonl`` (every event, as JSON lines), ``report.json`` (what was concluded),
        ``report.txt`` (the table). The directory is made when it is not there; files of an earlier
        trial in it are replaced.
        ``title`` is what it is called there, such as the test. Returns the directory.
        """
        from pytest_gracekill.render import folder as folders  # noqa: PLC0415 - as above

        folder = Path(directory)
        folders.write(folder, self.history, folders.record_of(self, title), str(self))
        if folder not in self.saved:
            self.saved.append(folder)
        return folder
