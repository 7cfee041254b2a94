"""Flaws that need a certain order of events are found by exploration, named, and replayed.

A specimen of test_flaws.py that has ``EXPLORE`` (arguments of ``gracekill.explore``) and
``EXPLORED`` (verdict -> word) is looked for in its schedules, too; ``LOCKS`` names locks of its
module. ``threads_*.py`` are programs for ``gracekill.explore_threads``: ``SETUP``, ``BODIES``, and
``HOLDS_UNDER``, a clock under which nothing is to be found.

``explored/NAME.txt`` is the report of a token, and has to come out of it on every Python version.
``FLAWS_EXPLORED=write`` makes these files anew; with a folder in it they are written there.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gracekill import explorations
from pytest_gracekill.explore.search import Search
from pytest_gracekill.fixtures import arguments_of
from pytest_gracekill.render.exploration import steps
from pytest_gracekill.settings import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gracekill.explore.findings import Findings

# beside this file, where pytest finds it
load = import_module("test_flaws").load

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
GOLDEN = HERE / "explored"
PROGRAMS = sorted(HERE.glob("threads_*.py"))
FLAWS = [
    *(path for path in sorted(HERE.glob("flaw_*.py")) if "\nEXPLORED" in path.read_text("utf-8")),
    *PROGRAMS,
]
WRITE = os.environ.get("FLAWS_EXPLORED", "")
#: Schedules within which a flaw is found, as the median over so many seeds.
WITHIN = 50
SEEDS = 20
#: Pythons that another one may find beside itself, and what tells that one has what is needed.
PYTHONS = [f"python3.{minor}" for minor in (11, 12, 13) if minor != sys.version_info.minor]
NEEDED = "import pytest, psutil, pytest_timeout, pytest_gracekill"

each_flaw = pytest.mark.parametrize("path", FLAWS, ids=lambda path: path.stem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explored:
    """A specimen, as an exploration takes it."""

    path: Path
    expected: dict[str, str]
    holds_under: str | None
    explore: Callable[..., Findings] = field(repr=False)

    def words(self, exploration: Findings) -> dict[str, str]:
        """What the first failure says of that which is expected."""
        report = exploration.failure
        assert report is not None, exploration
        broken = {n: v for n, v in report.verdicts.items() if v.status == "broken"}
        return {
            name: word
            for name, word in self.expected.items()
            if name in broken and word in (broken[name].word, *broken[name].also)
        }


def specimen(path: Path, request: pytest.FixtureRequest) -> Explored:
    """Read one file."""
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)

    def explore(*, replay: str | None = None, **more: Any) -> Findings:
        asking = explorations.Asking(
            test=f"tests/flaws/{path.name}",
            number=1,
            replay=Value(value=replay, source="--gracekill-replay"),
            deadline=None,
        )
        if path in PROGRAMS:
            return explorations.explore_threads(asking, module.SETUP, module.BODIES, None, more)
        routine = getattr(module, load(path).routine.__name__)
        given = {**module.EXPLORE, **more}
        if hasattr(module, "LOCKS"):
            given["locks"] = [(module, name) for name in module.LOCKS]
        return explorations.explore(asking, routine, "the call", arguments_of(request, given))

    return Explored(
        path=path,
        expected=module.EXPLORED,
        holds_under=getattr(module, "HOLDS_UNDER", None),
        explore=explore,
    )


def told(exploration: Findings) -> str:
    """The report of the first failure, and its schedule."""
    failure = exploration.failures[0]
    return "\n".join((str(failure.report), *steps(failure.steps, failure.origin_ns)))


@each_flaw
def test_flaw_is_found_named_and_replayed(path: Path, request: pytest.FixtureRequest) -> None:
    flaw = specimen(path, request)
    found = flaw.explore()
    assert found.status == "failed"
    assert flaw.words(found) == flaw.expected, found
    replayed = flaw.explore(replay=found.token)
    assert replayed.replayed
    assert told(replayed) == told(found)
    assert replayed.token == found.token


@each_flaw
def test_flaw_is_found_soon(
    path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # how short a failure can be made is none of its business
    monkeypatch.setattr(Search, "_shrunk", lambda _self, found: found)
    flaw = specimen(path, request)
    needed = []
    for seed in range(SEEDS):
        found = flaw.explore(seed=seed)
        assert flaw.words(found), found
        needed.append(found.schedules)
    assert statistics.median(needed) <= WITHIN, sorted(needed)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_what_needs_time_to_pass_is_not_there_without(
    path: Path, request: pytest.FixtureRequest
) -> None:
    program = specimen(path, request)
    if program.holds_under is None:
        assert program.explore(clock="jump").status == "failed"
    else:
        program.explore(clock=program.holds_under).check()


@each_flaw
def test_token_gives_the_report_that_it_gave_everywhere(
    path: Path, request: pytest.FixtureRequest
) -> None:
    flaw = specimen(path, request)
    golden = GOLDEN / f"{path.stem}.txt"
    if WRITE == "write":
        GOLDEN.mkdir(exist_ok=True)
        found = flaw.explore(replay=flaw.explore().token)
        golden.write_text(f"{found}\n", encoding="utf-8")
    kept = golden.read_text(encoding="utf-8")
    replayed = flaw.explore(replay=kept.split("--gracekill-replay=")[1].strip())
    if WRITE not in ("", "write"):
        (Path(WRITE) / golden.name).write_text(f"{replayed}\n", encoding="utf-8")
    assert _moved(f"{replayed}\n") == _moved(kept)


def _moved(text: str) -> str:
    """Without what changes whenever a line is put into our own code: numbers, and the wrapping."""
    return re.sub(r"(pytest_gracekill/[\w/]+\.py):\d+", r"\1", " ".join(text.split()))


@pytest.mark.skipif(bool(WRITE), reason="this is the other Python")
@pytest.mark.parametrize("name", PYTHONS)
def test_other_pythons_say_the_same_to_the_letter(name: str, tmp_path: Path) -> None:
    python = shutil.which(name)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    if python is None or subprocess.run([python, "-c", NEEDED], env=env, check=False).returncode:
        pytest.skip(f"there is no {name} with pytest, psutil and pytest-timeout")
    texts = []
    for place, one in enumerate((sys.executable, python)):
        folder = tmp_path / str(place)
        folder.mkdir()
        done = subprocess.run(
            [
                one,
                *("-m", "pytest", "-q", "-p", "pytest_gracekill.plugin", "-p", "pytest_timeout"),
                *("-p", "no:cacheprovider", "-c", os.devnull, f"--rootdir={ROOT}"),
                *(f"{__file__}::{test_token_gives_the_report_that_it_gave_everywhere.__name__}",),
            ],
            env={**env, "FLAWS_EXPLORED": str(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        texts.append({file.name: file.read_text("utf-8") for file in folder.iterdir()})
    mine, its = texts
    assert len(mine) == len(FLAWS)
    assert its == mine
