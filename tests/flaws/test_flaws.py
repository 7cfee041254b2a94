"""Every wrong routine is caught and named, every right one raises no alarm.

One file a routine: ``flaw_MODE.py`` has the wrong line marked with ``# FLAW mode``, ``CAUGHT``
(verdict -> word, or words of which one must be there) and ``TRIAL`` (arguments of the trial), and
may have ``NAMES`` (what the evidence of these verdicts says; ``{line}`` is the marked line) and
``WITHIN`` (a context around the call, made of the VM's journal); ``APART`` puts the trial into a
pid namespace of its own. ``EXPLORE`` and ``EXPLORED`` are for test_flaws_explored.py.
``FLAW_ATTEMPTS`` in the environment says how often each is to be caught.
"""

from __future__ import annotations

import inspect
import os
import re
import signal
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_gracekill import External
from pytest_gracekill.child.unstarted import Child
from pytest_gracekill.conformance.apart import CannotError, Failed, enter_pid_namespace, perform
from pytest_gracekill.conformance.around import around
from pytest_gracekill.routine.adapt import adapt
from pytest_gracekill.trial import default_topology, knob_names

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from pytest_gracekill import Report
    from pytest_gracekill.child.journal import Journal
    from pytest_gracekill.fixtures import Judge, StartFake

HERE = Path(__file__).parent
FLAWS = sorted(HERE.glob("flaw_*.py"))
RIGHT = sorted(HERE.glob("right_*.py"))
ATTEMPTS = int(os.environ.get("FLAW_ATTEMPTS", "3"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """A routine of a file (its last public one), the trial that it is put to, what is expected."""

    path: Path
    routine: Callable[..., object] | External
    trial: dict[str, Any]
    caught: dict[str, str | tuple[str, ...]]
    names: tuple[str, ...]
    within: Callable[[Journal], AbstractContextManager[object]] | None
    apart: bool
    after: Callable[[], object]

    def run(self, gracekill: Judge, fake_qemu: StartFake) -> Report:
        """One trial of it, and what lets go of what it has kept."""
        try:
            return self._judged(gracekill, fake_qemu)
        finally:
            self.after()

    def _judged(self, gracekill: Judge, fake_qemu: StartFake) -> Report:
        if self.apart:
            return self._run_apart(gracekill)
        if self.within is None:
            return gracekill(self.routine, **self.trial)
        context = self.within
        adapted = adapt(self.routine)
        if adapted.starts_the_vm:
            wrapped = around(adapted, lambda child: context(_journal(child)))
            return gracekill(wrapped, **self.trial)
        knobs = {name: value for name, value in self.trial.items() if name in knob_names()}
        vm = fake_qemu(**{"topology": default_topology(adapted), **knobs})
        wrapped = around(adapted, lambda _first: context(vm.journal))
        rest = {name: value for name, value in self.trial.items() if name not in knobs}
        return gracekill(wrapped, vm=vm, **rest)

    def _run_apart(self, gracekill: Judge) -> Report:
        """The same in a process of its own, where a pid can be given away again."""

        def work() -> Report:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            return gracekill(self.routine, **self.trial)

        with TemporaryDirectory() as folder:
            try:
                seen = perform(work, Path(folder), within=30, prepare=enter_pid_namespace)
            except CannotError as error:
                pytest.skip(f"no pid namespace can be had here: {error}")
        assert not isinstance(seen, Failed), str(seen)
        return cast("Report", seen)


def _journal(child: object) -> Journal:
    assert isinstance(child, Child)
    return child.journal


def load(path: Path) -> Specimen:
    """Read one file."""
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    routines = [
        value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (
            isinstance(value, External)
            or (inspect.isfunction(value) and value.__module__ == path.stem)
        )
    ]
    names = getattr(module, "NAMES", ())
    return Specimen(
        path=path,
        routine=routines[-1],
        trial=module.TRIAL,
        caught=getattr(module, "CAUGHT", {}),
        names=(names,) if isinstance(names, str) else tuple(names),
        within=getattr(module, "WITHIN", None),
        apart=getattr(module, "APART", False),
        after=getattr(module, "AFTER", lambda: None),
    )


def marked_line(path: Path) -> str:
    """The wrong line as evidence names it: the one with the mark, or that below such a comment."""
    lines = path.read_text(encoding="utf-8").splitlines()
    marks = [i for i, line in enumerate(lines) if re.search(r"# FLAW [a-z0-9-]+", line)]
    assert marks, "the wrong line is marked"
    number = marks[0]
    if lines[number].lstrip().startswith("#") and number + 1 < len(lines):
        number += 1
    return f"{path.name}:{number + 1} "


@pytest.mark.parametrize("path", FLAWS * ATTEMPTS, ids=lambda path: path.stem)
def test_flaw_is_caught_and_named(gracekill: Judge, fake_qemu: StartFake, path: Path) -> None:
    flaw = load(path)
    assert flaw.caught
    line = marked_line(path)
    report = flaw.run(gracekill, fake_qemu)
    told: list[str] = []
    for name, expected in flaw.caught.items():
        verdict = report.verdicts[name]
        assert verdict.status == "broken", report
        words = {verdict.word, *verdict.also}
        wanted = {expected} if isinstance(expected, str) else set(expected)
        assert words & wanted, report
        # and a picture can show when and where
        shown = {moment.word for moment in verdict.moments}
        assert words & wanted <= shown, verdict
        told += [verdict.evidence, *verdict.detail]
    for name in flaw.names:
        text = name.replace("{line}", line)
        assert any(text in evidence for evidence in told), f"{text!r} is not told\n{report}"


@pytest.mark.parametrize("path", RIGHT, ids=lambda path: path.stem)
def test_right_routine_raises_no_alarm(gracekill: Judge, fake_qemu: StartFake, path: Path) -> None:
    load(path).run(gracekill, fake_qemu).check()
