"""A fault of the drawing takes nothing from what was found."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from pytest_gracekill import extras
from pytest_gracekill.child.disk import Audit
from pytest_gracekill.judgement import Judgement
from pytest_gracekill.render import folder
from pytest_gracekill.render.record import Record
from pytest_gracekill.report import Verdict
from pytest_gracekill.witness.history import History

if TYPE_CHECKING:
    from pathlib import Path

LOST = Verdict(name="data", status="broken", word="DATA LOST", evidence="blocks 4-7")


def fails(*_: object) -> object:
    raise ZeroDivisionError("no room")


def test_evidence_that_cannot_be_drawn_is_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_gracekill.render.picture.picture_of", fails)
    record = Record(headline="gracekill: DATA LOST", ok=False)
    folder.write(tmp_path, History(), record, "the <table>")
    page = (tmp_path / folder.PAGE).read_text(encoding="utf-8")
    assert "the &lt;table&gt;" in page
    assert "ZeroDivisionError: no room" in page
    assert folder.load(tmp_path).record == record


@pytest.mark.parametrize("drawn", [True, False])
def test_pytest_html_hears_of_it(monkeypatch: pytest.MonkeyPatch, *, drawn: bool) -> None:
    if not drawn:
        monkeypatch.setattr(extras, "picture_of", fails)
    trial = Judgement(
        verdicts={"data": LOST}, not_judged={}, disk=Audit(), calls=(), history=History()
    )
    test = SimpleNamespace(extras=[{"name": "theirs"}])
    extras.add(cast("pytest.TestReport", test), [trial])
    theirs, ours = test.extras
    assert theirs == {"name": "theirs"}
    if drawn:
        assert ours["format_type"] == "image"
        assert base64.b64decode(ours["content"]).startswith(b"<svg ")
    else:
        assert ours["format_type"] == "text"
        assert "ZeroDivisionError: no room" in ours["content"]
