"""The timelines in the text of a failure: one for each trial that is not ok, and what is saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.render import folder
from pytest_gracekill.render.picture import picture_of
from pytest_gracekill.render.terminal import terminal
from pytest_gracekill.render.terminal.ink import ink_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gracekill.explore.findings import Findings
    from pytest_gracekill.judgement import Judgement
    from pytest_gracekill.render.terminal.ink import Ink

#: Trials of one test that are drawn.
_MOST = 5


def failed(trials: Sequence[Judgement], explored: Sequence[Findings | None]) -> list[Judgement]:
    """The reports that there is something to see in."""
    found = [trial for trial in trials if not trial.ok]
    found += [e.failure for e in explored if e is not None and e.failure is not None]
    return found


def drawn(reports: Sequence[Judgement], encoding: str | None) -> Iterator[str]:
    """Each as a terminal of that encoding can show it; at the end the file to open."""
    for report in reports[:_MOST]:
        files = [f"evidence: {path / folder.PAGE}" for path in report.saved]
        yield "\n".join([_drawn(report, ink_for(encoding)), *files])
    if len(reports) > _MOST:
        yield f"and {len(reports) - _MOST} more trials, which are not drawn"


def _drawn(report: Judgement, ink: Ink) -> str:
    try:
        saved = folder.Saved(story=report.history, record=folder.record_of(report))
        return terminal(picture_of(saved), ink)
    except Exception as error:  # noqa: BLE001 - what was found is told, whatever its picture
        return f"it could not be drawn: {type(error).__name__}: {error}"
