"""The reference leaves nothing out: each name, knob, setting, verdict and word is in it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import pytest_gracekill
from docs import tables
from docs.blocks import ROOT
from pytest_gracekill import settings
from pytest_gracekill.arguments import DEFAULTS
from pytest_gracekill.child.handle import FakeQemu
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.report import VERDICTS
from pytest_gracekill.routine.adapt import FILLED, OFFERED

REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The part of the reference under a heading of the second level."""
    parts = REFERENCE.split(f"\n## {title}\n")
    assert len(parts) == 2, title
    return parts[1].partition("\n## ")[0]


@pytest.mark.parametrize("name", pytest_gracekill.__all__)
def test_public_name(name: str) -> None:
    assert f"\n### `{name}`\n" in section("Public names")


@pytest.mark.parametrize("knob", [field.name for field in dataclasses.fields(Knobs)])
def test_knob(knob: str) -> None:
    assert f"\n| `{knob}` |" in section("Knobs")


@pytest.mark.parametrize("setting", settings.SETTINGS.values(), ids=lambda setting: setting.name)
def test_setting(setting: settings.Setting) -> None:
    row = re.search(rf"^.*`{setting.variable}`.*$", section("Options"), re.MULTILINE)
    assert row is not None
    for spelled in setting.switches or (f"{setting.option}={setting.metavar}",):
        assert f"`{spelled.replace('|', chr(92) + '|')}`" in row[0]
    assert f"`{setting.ini}`" in row[0]


def test_arguments() -> None:
    described = set(re.findall(r"^\| `(\w+)` \|", section("Arguments of gracekill"), re.MULTILINE))
    taken = {"routine", *DEFAULTS, *(settings.SETTINGS.keys() - settings.SESSION_ONLY)}
    assert described == taken


@pytest.mark.parametrize("name", [*OFFERED, *FILLED])
def test_parameter_of_a_routine(name: str) -> None:
    assert f"`{name}`" in section("What a routine is given")


@pytest.mark.parametrize("name", ["gracekill", "fake_qemu", "kill_routine"])
def test_fixture(name: str) -> None:
    assert f"\n### `{name}`\n" in section("Fixtures")


def words_in_the_code(verdict: str) -> set[str]:
    """Every string of capitals that is no signal: in the modules of the verdicts that is a word."""
    source = Path(inspect.getfile(import_module(f"pytest_gracekill.verdicts.{verdict}")))
    return {
        node.value
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"[A-Z]{4,}( [A-Z]+)*", node.value)
        and not node.value.startswith("SIG")
    }


@pytest.mark.parametrize("verdict", VERDICTS)
def test_verdict_and_its_words(verdict: str) -> None:
    words = words_in_the_code(verdict)
    assert words
    assert set(tables.WORDS[verdict]) == words
    part = section("Verdicts").split(f"\n### `{verdict}`\n")[1].partition("\n### ")[0]
    for word in words:
        assert f"\n| `{word}` |" in part


def test_attributes_of_a_fake() -> None:
    set_at_start = re.findall(r"\bself\.([a-z]\w*) = ", inspect.getsource(FakeQemu.__init__))
    for name in set_at_start:
        assert f"\n- `.{name}`" in section("Public names"), name


def test_no_heading_twice() -> None:
    headings = re.findall(r"^#+ .*$", REFERENCE, re.MULTILINE)
    assert len(headings) == len(set(headings))
