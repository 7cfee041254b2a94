"""The picture of a failing trial in the report of pytest-html, where that plugin writes one."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from pytest_gracekill.render import folder
from pytest_gracekill.render.picture import picture_of
from pytest_gracekill.render.timeline.drawing import svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from pytest_gracekill.judgement import Judgement


def add(report: pytest.TestReport, trials: Sequence[Judgement]) -> None:
    """Add the pictures of the trials that are not ok to the extras of a test's report.

    The extras are plain dicts, as `pytest_html.extras.svg` makes them: they come through xdist.
    """
    drawn = [_extra(number, trial) for number, trial in enumerate(trials, start=1) if not trial.ok]
    if drawn:
        # pytest-html's name for it
        vars(report)["extras"] = [*getattr(report, "extras", []), *drawn]


def _extra(number: int, trial: Judgement) -> dict[str, str]:
    name = f"gracekill trial {number}"
    try:
        content = base64.b64encode(_svg(trial).encode()).decode("ascii")
    except Exception as error:  # noqa: BLE001 - what was found is told, whatever its picture
        told = f"it could not be drawn: {type(error).__name__}: {error}"
        plain = {"format_type": "text", "mime_type": "text/plain", "extension": "txt"}
        return {"name": name, "content": told, **plain}
    image = {"format_type": "image", "mime_type": "image/svg+xml", "extension": "svg"}
    return {"name": name, "content": content, **image}


def _svg(trial: Judgement) -> str:
    saved = folder.Saved(story=trial.history, record=folder.record_of(trial))
    return svg(picture_of(saved))
