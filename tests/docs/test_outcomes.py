"""The table of outcomes is whole, and its page has each word with a reason."""

from __future__ import annotations

from itertools import product

from docs.blocks import ROOT
from docs.outcomes import CELLS, REPORTS, STATES
from pytest_gracekill.data.words import named

PAGE = " ".join((ROOT / "docs" / "trial.md").read_text(encoding="utf-8").split())


def test_every_report_in_every_state_has_a_cell() -> None:
    assert set(CELLS) == set(product(REPORTS, STATES))


def test_cells_have_known_words_and_the_page_has_their_reasons() -> None:
    for cell in CELLS.values():
        for word in cell.words:
            found = named(word)
            assert found is not None, word
            assert found.name == word
        assert cell.why in PAGE, cell


def test_the_page_has_a_row_for_each_report() -> None:
    for report, shown in REPORTS.items():
        words = [", ".join(sorted(CELLS[report, state].words)) or "ok" for state in STATES]
        assert f"| {shown} | {' | '.join(words)} |" in PAGE
