"""The table of the suite's cases has them all, and says of each where it is skipped."""

from __future__ import annotations

import inspect
import re
from typing import cast

import pytest

from docs import cases
from docs.blocks import ROOT
from pytest_gracekill import conformance

CONFORMANCE = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
FUNCTIONS = [function for module in cases.GROUPS for function in cases.functions(module)]

#: How a case says that it does not apply.
_SKIPS = re.compile(
    r"\bskip\(|\.explore\(|\.needs_|trial_after_death|_can_be_called_twice|has_own_child"
)


def test_every_case_is_in_the_table() -> None:
    names = {f"test_{name}" for name in re.findall(r"^\| `(\w+)`", CONFORMANCE, re.MULTILINE)}
    assert names == {function.__name__ for function in FUNCTIONS}
    public = cast("list[str]", conformance.__getattr__("__all__"))
    assert {name for name in public if name.startswith("test_")} == names


def test_every_row_is_full() -> None:
    for line in CONFORMANCE.partition("<!-- generated: cases -->")[2].splitlines():
        if line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert all(cells[:4]), line


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_what_is_skipped_is_told(function: object) -> None:
    name = getattr(function, "__name__", "").removeprefix("test_")
    skips = bool(_SKIPS.search(inspect.getsource(function)))  # type: ignore[arg-type] # a function
    assert skips == (name in cases.SKIPPED)


def test_the_number_of_cases_that_is_told() -> None:
    for page in ("README.md", "CHANGELOG.md"):
        told = re.findall(r"(\d+)\s+cases", (ROOT / page).read_text(encoding="utf-8"))
        assert told, page
        assert set(told) == {str(cases.number())}, page
