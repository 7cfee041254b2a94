"""What a trial returns: verdicts with their evidence, and everything that was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytest_gracekill.legible import error_text, escape, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pytest_gracekill.child.disk import Audit
    from pytest_gracekill.data.disturbances import Cause
    from pytest_gracekill.judgement import Judgement
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
    where in the history the broken words can be seen. ``cause``: who made an ``unknown`` one so,
    the machine or somebody outside of the trial; empty where that is neither.
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
    cause: Cause = ""

    def __post_init__(self) -> None:
        # whatever a text was made of, a terminal and an XML file can hold it
        for name in ("evidence", "summary", "advice"):
            object.__setattr__(self, name, escape(getattr(self, name)))
        object.__setattr__(self, "detail", tuple(map(escape, self.detail)))

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
    until the cut. ``unread``: why the claim could not be read from the result. ``raised_at``: the
    line of a mistake, such as a NameError, as " at FILE:LINE in F: `CODE`".
    """

    success: bool | None
    result: object
    error: BaseException | None
    elapsed: float
    unread: str = ""
    raised_at: str = ""

    def __str__(self) -> str:
        if self.success is None:
            return f"cut off after {self.elapsed:.3f} s"
        if self.error is not None:
            return f"raised {error_text(self.error)}{self.raised_at}"
        unread = f" ({self.unread})" if self.unread else ""
        return f"returned {text_of(self.result)}{unread}"


class Report:
    """One trial, judged. ``str()`` is the table, ``repr()`` one line; ``check()`` asserts.

    A test that ends without having looked at a report that is not ok fails. Any attribute,
    ``str()``, ``bool()`` and ``check()`` are looks; ``repr()`` and ``save()`` are none.
    """

    __slots__ = ("_judgement", "_on_look")

    def __init__(self, judgement: Judgement, on_look: Callable[[], None] | None = None) -> None:
        self._judgement = judgement
        self._on_look = on_look

    def __reduce__(self) -> tuple[object, ...]:
        return Report, (self._judgement.portable(),)

    def _looked(self) -> Judgement:
        """Note that the test looks at it."""
        if self._on_look is not None:
            self._on_look()
        return self._judgement

    def __str__(self) -> str:
        return str(self._looked())

    def __repr__(self) -> str:
        return f"<Report {self._judgement.headline()}>"

    def __bool__(self) -> bool:
        return self.ok

    @property
    def ok(self) -> bool:
        """True when every verdict that was judged is ``ok``, and the clean-up raised nothing.

        Unknown is not ok. ``bool(report)`` is the same.
        """
        return self._looked().ok

    @property
    def verdicts(self) -> Mapping[str, Verdict]:
        """The verdicts by name; a KeyError of what was not judged gives the reason."""
        return self._looked().verdicts

    @property
    def not_judged(self) -> Mapping[str, str]:
        """What could not apply to this trial, by name, with the reason."""
        return self._looked().not_judged

    @property
    def disk(self) -> Audit:
        """The disk after the trial: which blocks were acknowledged, and which are damaged."""
        return self._looked().disk

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every call of the routine; one, unless ``callers=`` says more."""
        return self._looked().calls

    @property
    def history(self) -> History:
        """Every event of the trial."""
        return self._looked().history

    @property
    def result(self) -> object:
        """What the (first) call of the routine returned; ``None`` when it raised."""
        return self._looked().result

    @property
    def error(self) -> BaseException | None:
        """What the (first) call of the routine raised; ``None`` when it returned."""
        return self._looked().error

    @property
    def elapsed(self) -> float:
        """Seconds that the (first) call of the routine took."""
        return self._looked().elapsed

    @property
    def longest_stall(self) -> float | None:
        """Seconds of the longest operation of a contender; ``None`` without contenders."""
        return self._looked().longest_stall

    @property
    def sigkill_sent(self) -> bool:
        """Whether a SIGKILL of the routine reached the VM."""
        return self._looked().sigkill_sent

    @property
    def clean_up(self) -> BaseException | None:
        """What the adapter's clean-up raised: the report is not ok then, whatever the verdicts."""
        return self._looked().clean_up

    @property
    def circumstances(self) -> Mapping[str, object]:
        """The routine, the knobs and the calls, as plain data."""
        return self._looked().circumstances

    @property
    def notes(self) -> tuple[str, ...]:
        """What was seen beside what is judged, such as a start command that failed meanwhile."""
        return self._looked().notes

    @property
    def saved(self) -> list[Path]:
        """The folders that the evidence was written to."""
        return self._looked().saved

    def headline(self, *names: str) -> str:
        """Every word that is not ``ok`` in one line: pytest's ``--tb=line`` shows only this."""
        return self._looked().headline(*names)

    def check(self, *names: str) -> None:
        """Fail unless every verdict (or every one that is named) is ``ok``.

        What the adapter's clean-up raised fails every check, whichever verdicts it names.

        :raises AssertionError: a verdict is broken or unknown, or one that was asked for by name
            could not be judged in this trial, or the clean-up raised; the text is the whole table.
        :raises UsageError: there is no verdict of that name.
        """
        __tracebackhide__ = True
        self._looked().check(*names)

    def ignore(self) -> None:
        """Say that the test means not to look at this report, even if it is not ok."""
        self._looked()

    def save(self, directory: str | Path, *, title: str = "") -> Path:
        """Write the evidence, and its picture: ``timeline.html`` is the file to open.

        Beside it are ``timeline.svg``, ``trace.json`` for Perfetto, and what all are made from:
        ``history.jsonl`` (every event, as JSON lines), ``report.json`` (what was concluded),
        ``report.txt`` (the table). The directory is made when it is not there; files of an earlier
        trial in it are replaced.
        ``title`` is what it is called there, such as the test. Returns the directory.
        """
        return self._judgement.save(directory, title=title)
