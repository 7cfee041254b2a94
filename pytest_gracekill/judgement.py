"""One trial, judged, as a record: what the plugin itself reads, draws and saves.

A test is handed a `Report`, which shows this record and notes that the test has looked.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gracekill.errors import UsageError
from pytest_gracekill.legible import error_text, single_line, text_of
from pytest_gracekill.report import VERDICTS, Verdict
from pytest_gracekill.witness.history import History

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_gracekill.child.disk import Audit
    from pytest_gracekill.report import Call

#: Characters of a clean-up's exception that the headline has room for.
_LONGEST = 120


class Verdicts(dict[str, Verdict]):
    """The verdicts by name; a name that was not judged is a KeyError that gives the reason."""

    def __init__(self, verdicts: Mapping[str, Verdict], not_judged: Mapping[str, str]) -> None:
        super().__init__(verdicts)
        self._not_judged = not_judged

    def __missing__(self, name: str) -> Verdict:
        if name in self._not_judged:
            raise KeyError(f"{name}: not judged ({self._not_judged[name]})")
        raise KeyError(f"there is no verdict {name!r}; those that are judged: {', '.join(self)}")


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a trial has found. ``clean_up`` is what the adapter raised in its clean-up.

    ``saved`` are the folders with its evidence, ``unsaved`` says why it could not be saved.
    ``notes`` are told beside the verdicts, and judged by none. ``run_twice``: why a first run could
    not be judged, where this is the second; empty where there was one.
    """

    verdicts: Mapping[str, Verdict]
    not_judged: Mapping[str, str]
    disk: Audit
    calls: tuple[Call, ...]
    history: History = field(repr=False)
    longest_stall: float | None = None
    sigkill_sent: bool = False
    clean_up: BaseException | None = None
    circumstances: Mapping[str, object] = field(default_factory=dict, repr=False)
    saved: list[Path] = field(default_factory=list, repr=False)
    unsaved: list[str] = field(default_factory=list, repr=False)
    notes: tuple[str, ...] = ()
    run_twice: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "verdicts", Verdicts(self.verdicts, self.not_judged))

    def __str__(self) -> str:
        from pytest_gracekill.render.text import table  # noqa: PLC0415 - render reads judgements

        return table(self)

    @property
    def ok(self) -> bool:
        """True when every verdict is ``ok`` and the adapter's clean-up raised nothing."""
        return self.clean_up is None and self._are_ok(self.verdicts)

    def _are_ok(self, names: Mapping[str, Verdict] | tuple[str, ...]) -> bool:
        return all(name in self.verdicts and self.verdicts[name].status == "ok" for name in names)

    @property
    def result(self) -> object:
        """What the (first) call of the routine returned; ``None`` when it raised."""
        return self.calls[0].result

    @property
    def error(self) -> BaseException | None:
        """What the (first) call of the routine raised; ``None`` when it returned."""
        return self.calls[0].error

    @property
    def elapsed(self) -> float:
        """Seconds that the (first) call of the routine took."""
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
        if self.clean_up is not None:
            words.append(f"CLEAN-UP FAILED ({single_line(error_text(self.clean_up), _LONGEST)})")
        return "gracekill: " + (", ".join(words) or "ok")

    def check(self, *names: str) -> None:
        """Do what `Report.check` does."""
        __tracebackhide__ = True
        for name in names:
            if name not in VERDICTS:
                raise UsageError(
                    f"there is no verdict {name!r}; those that are judged: {', '.join(VERDICTS)}",
                    source="report.check()",
                )
        if self.clean_up is None and self._are_ok(names or self.verdicts):
            return
        from pytest_gracekill.render.text import failure  # noqa: PLC0415 - as above

        raise AssertionError(failure(self, names)) from self.clean_up

    def portable(self) -> Judgement:
        """Return the same without what belongs to this process: it can be pickled.

        Results and exceptions become texts, and the history is left out.
        """
        calls = tuple(
            replace(call, result=text_of(call.result), error=_portable(call.error))
            for call in self.calls
        )
        return replace(self, calls=calls, clean_up=_portable(self.clean_up), history=History())

    def save(self, directory: str | Path, *, title: str = "") -> Path:
        """Do what `Report.save` does."""
        from pytest_gracekill.render import folder as folders  # noqa: PLC0415 - as above

        folder = Path(directory)
        folders.write(folder, self.history, folders.record_of(self, title), str(self))
        if folder not in self.saved:
            self.saved.append(folder)
        return folder


def _portable(error: BaseException | None) -> BaseException | None:
    return None if error is None else RuntimeError(error_text(error))
