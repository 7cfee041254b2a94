"""The parts of the suite: cases and their order, rows, the clock, the fork, the stranger."""

# naive times are what is put to the test
# ruff: noqa: DTZ001, DTZ002, DTZ005, DTZ011, DTZ012

from __future__ import annotations

import datetime as dt
import inspect
import os
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime as bound_datetime
from pathlib import Path
from time import time as bound_time
from typing import TYPE_CHECKING, cast

import pytest

from pytest_gracekill import conformance
from pytest_gracekill.child.journal import Journal
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.conformance import rows
from pytest_gracekill.conformance.apart import (
    CannotError,
    Failed,
    drop_rights,
    enter_pid_namespace,
    perform,
)
from pytest_gracekill.conformance.cases import Case, described, longest_first, waits_long
from pytest_gracekill.conformance.wallclock import clock_set
from pytest_gracekill.errors import UsageError
from pytest_gracekill.judgement import Judgement
from pytest_gracekill.render.cases import headline, table
from pytest_gracekill.report import Verdict
from pytest_gracekill.witness.bindings import replaced
from pytest_gracekill.witness.history import History

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_gracekill.child.program.lifeline import Lifeline

CASES: dict[str, Callable[..., object]] = {
    name: getattr(conformance, name)
    for name in cast("list[str]", conformance.__all__)
    if name.startswith("test_")
}

# -- the cases


@pytest.mark.parametrize("name", CASES)
def test_a_case_has_its_contract_its_modes_and_its_source(name: str) -> None:
    case = described(CASES[name])
    assert case.contract.endswith(".")
    assert case.contract.count(". ") == 0, "one sentence"
    assert case.modes
    assert all(mode == mode.strip().lower() and " " not in mode for mode in case.modes)
    assert case.source


def test_at_least_24_cases_of_which_at_most_nine_wait_for_the_whole_time() -> None:
    assert len(CASES) >= 24
    assert 0 < sum(map(waits_long, CASES.values())) <= 9


def test_import_star_brings_every_case_and_the_fixture_and_no_more() -> None:
    there: dict[str, object] = {}
    exec("from pytest_gracekill.conformance import *", there)  # as a module of a user's
    del there["__builtins__"]
    assert set(there) == {*CASES, "contract"}


def test_no_such_case() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'test_nothing'"):
        _ = conformance.test_nothing


@pytest.mark.parametrize(
    ("given", "order"),
    [
        ("abAcBd", "AaBbcd"),
        ("AAAbc", "AbAcA"),
        ("Aabcd", "Aabcd"),
        ("abc", "abc"),
        ("", ""),
    ],
)
def test_each_worker_begins_with_a_long_one(given: str, order: str) -> None:
    assert "".join(longest_first(given, str.isupper)) == order


# -- the table

CASE = Case(id="a_case", contract="A VM ends.", modes=("one", "two"), source="libvirt 1")


def row(verdict: str, case_id: str = "a_case", evidence: str = "why") -> rows.Row:
    return rows.row(CASE, case_id, verdict, evidence)


def report(**verdicts: tuple[str, str]) -> Judgement:
    from pytest_gracekill.child.disk import Audit

    return Judgement(
        verdicts={
            name: Verdict(
                name=name,
                status="ok" if word == "ok" else "broken",
                word=word,
                evidence=evidence,
                summary="(3 of 64 blocks: 1-3)" if word == "DATA LOST" else "",
            )
            for name, (word, evidence) in verdicts.items()
        },
        not_judged={},
        disk=Audit(),
        calls=(),
        history=History(),
    )


def test_a_failure_is_told_by_its_words_and_the_evidence_of_the_first() -> None:
    lost = report(
        data=("DATA LOST", "blocks 1-3 are gone"),
        escalation=("KILLED EARLY", "SIGKILL too soon"),
        outcome=("ok", "returned; dead"),
    )
    assert rows.of_failure(lost.headline(), [report(), lost]) == (
        "DATA LOST, KILLED EARLY",
        "blocks 1-3 are gone",
    )
    assert rows.of_failure(lost.headline("escalation"), [lost])[1] == "SIGKILL too soon"
    assert rows.of_failure("gracekill: SLOW (10 VMs took 9 s)", [report()]) == (
        "SLOW",
        "10 VMs took 9 s",
    )
    assert rows.of_failure("NOWAIT waited\nmore", []) == ("FAILED", "NOWAIT waited")


def test_a_success_is_told_by_its_signals_and_its_end() -> None:
    fine = report(
        escalation=("ok", "SIGTERM t+0.001"), outcome=("ok", "returned None; the VM is dead")
    )
    assert rows.of_success([report(), fine], []) == ("ok", "SIGTERM t+0.001; the VM is dead")
    silent = report(escalation=("NEVER KILLED", "no"), outcome=("ok", "raised EPERM; it lives"))
    assert rows.of_success([silent], ["so"]) == ("ok", "so; raised EPERM; it lives")
    assert rows.of_success([], []) == ("ok", "")


def test_lost_data_is_read_before_what_is_slow() -> None:
    found = rows.read_first(
        [
            row("SLOW", "a"),
            row("ok", "b"),
            row("DATA LOST, TORN", "c"),
            row("skipped", "d"),
            row("DATA LOST", "e"),
            row("FAILED", "f"),
            row("HUNG", "g"),
            row("ERROR at setup", "h"),
        ]
    )
    assert [each["id"] for each in found] == ["c", "f", "g"]
    assert rows.read_first([row("ERROR at setup", "h")]) == []


def test_the_table_fits_and_says_what_to_read() -> None:
    given = [
        row("DATA LOST, TORN", "z", "x" * 200),
        row("ok", "a", ""),
        row("skipped", "b[1]", "no flags"),
    ]
    lines = list(table(given))
    assert all(len(line) <= 100 for line in lines)
    assert [line.split()[0] for line in lines[:3]] == ["a", "b[1]", "z"]
    assert lines[2].startswith("z     DATA LOST ...  xxx")
    assert lines[3:] == ["", "read first:", *lines[5:]]
    assert lines[5] == "  z (DATA LOST, TORN): A VM ends. Failure modes: one, two."
    assert headline(given) == "1 of 3 cases ok, 1 broken, 1 not applicable"
    given[0]["routine"] = "destroy, survives 2 s"
    assert headline(given).startswith("destroy, survives 2 s: 1 of 3 cases ok")
    assert headline([row("ok")]) == "1 of 1 cases ok"
    assert "read first:" not in list(table([row("ok")]))


def test_the_last_lines_say_what_was_judged_and_what_in_no_case() -> None:
    lost = judged(["data", "outcome"], {"locks": "no locks", "deadlock": "no locks"})
    later = judged(["outcome"], {"data": "it ran on", "deadlock": "no locks"})
    cases = [
        rows.row(CASE, "a", "ok", "", trials=[lost]),
        rows.row(CASE, "b", "ok", "", trials=[later, later]),
        rows.row(CASE, "c", "ok", "", trials=[]),
        rows.row(CASE, "d", "skipped", "why"),
    ]
    assert list(table(cases))[4:] == [
        "",
        "judged in 2 cases: data 1, outcome 2",
        "judged in none: deadlock, locks (no locks)",
    ]
    # a case is judged by all of its trials
    both = rows.row(CASE, "a", "ok", "", trials=[later, lost])
    assert (both["judged"], both["not_judged"]) == (
        ["outcome", "data"],
        {"deadlock": "no locks", "locks": "no locks"},
    )
    assert list(table([rows.row(CASE, "c", "ok", "why")])) == ["c  ok  why"]


def judged(names: Sequence[str], not_judged: dict[str, str]) -> Judgement:
    found = report(**dict.fromkeys(names, ("ok", "seen")))
    return replace(found, not_judged=not_judged)


# -- names that are bound to something else for a while


def test_a_binding_is_replaced_wherever_it_is_and_restored() -> None:
    original = time.time

    def shifted() -> float:
        return -1.0

    def other() -> float:
        return -2.0

    with replaced([(original, shifted)], but=("pytest_gracekill",)):
        assert (time.time(), bound_time()) == (-1.0, -1.0)
        with suppress(ZeroDivisionError), replaced([(shifted, other)]):
            assert (time.time(), bound_time()) == (-2.0, -2.0)
            1 / 0  # noqa: B018 - it ends in an exception
        assert (time.time(), bound_time()) == (-1.0, -1.0)
    assert time.time is original
    assert bound_time is original


# -- the wall clock


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Callable[[str], Journal]]:
    path = tmp_path / "journal"

    def write(event: str) -> Journal:
        with path.open("a") as file:
            file.write(f'{{"ns": 1, "event": "{event}", "signal": 15, "pid": 1}}\n')
        return Journal(path)

    yield write
    assert time.time is bound_time
    assert dt.datetime is bound_datetime


def later(look: Callable[[], float], than: float) -> float:
    """What it shows when it has jumped; an hour is far beyond what a test may take."""
    deadline = time.monotonic() + 20
    while abs(look() - than) < 3600:
        assert time.monotonic() < deadline, "the clock was not set"
    return look() - than


def test_the_clock_is_set_when_the_vm_was_asked(journal: Callable[[str], Journal]) -> None:
    looks: tuple[Callable[[], float], ...] = (
        lambda: time.time(),  # noqa: PLW0108 - bound when it is called
        lambda: time.time_ns() / 1e9,
        lambda: dt.datetime.now().timestamp(),
        lambda: dt.datetime.now(dt.UTC).timestamp(),
        lambda: dt.datetime.today().timestamp(),
        # bound by import: read at the call
        lambda: bound_time(),  # noqa: PLW0108 - as above
        lambda: bound_datetime.now().timestamp(),
    )
    before = time.time()
    monotonic = time.monotonic()
    real = dt.datetime(2020, 1, 1)
    with clock_set(journal("start"), hours=-5.0):
        assert abs(time.time() - before) < 3600, "nobody has asked the VM yet"
        journal("signal")
        for look in looks:
            assert -5.1 * 3600 < later(look, before) < -4.9 * 3600
        assert 0 <= time.monotonic() - monotonic < 3600
        assert isinstance(real, dt.datetime)
        assert isinstance(dt.datetime.now() - real, dt.timedelta)
        assert isinstance(real, dt.date)
        assert dt.date.today() <= dt.date.fromtimestamp(before)
    assert abs(time.time() - before) < 3600


# -- a process of its own


def nothing(_lifeline: Lifeline) -> None:
    return None


def test_what_the_other_process_returns_comes_back(tmp_path: Path) -> None:
    assert perform(os.getpid, tmp_path, within=20, prepare=nothing) != os.getpid()
    assert not list(tmp_path.iterdir())


def test_what_it_raises_comes_back_as_a_text(tmp_path: Path) -> None:
    seen = perform(lambda: 1 / 0, tmp_path, within=20, prepare=nothing)
    assert isinstance(seen, Failed)
    assert "ZeroDivisionError" in str(seen)


def test_one_that_hangs_is_killed(tmp_path: Path) -> None:
    seen = perform(lambda: time.sleep(1000), tmp_path, within=0.3, prepare=nothing)
    assert isinstance(seen, Failed)
    assert "(-9) or was killed after 0.3 s" in str(seen)


def test_one_that_cannot_be_prepared(tmp_path: Path) -> None:
    def refuse(_lifeline: Lifeline) -> None:
        raise PermissionError(1, "not here")

    with pytest.raises(CannotError, match="not here"):
        perform(os.getpid, tmp_path, within=20, prepare=refuse)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
def test_nobody_has_no_rights(tmp_path: Path) -> None:
    def look() -> tuple[int, int, str]:
        try:
            os.kill(os.getppid(), 0)
        except PermissionError as error:
            return os.getuid(), os.getgid(), str(error)
        return os.getuid(), os.getgid(), "may"

    assert perform(look, tmp_path, within=20, prepare=drop_rights) == (
        65534,
        65534,
        "[Errno 1] Operation not permitted",
    )


def test_a_pid_namespace_has_pids_and_a_proc_of_its_own(tmp_path: Path) -> None:
    def look() -> tuple[int, list[str]]:
        return os.getpid(), sorted(
            path.name for path in Path("/proc").iterdir() if path.name.isdecimal()
        )

    try:
        seen = perform(look, tmp_path, within=20, prepare=enter_pid_namespace)
    except CannotError as error:
        pytest.skip(f"no pid namespace can be had here: {error}")
    assert seen == (2, ["1", "2"])


# -- the stranger


def test_reuse_needs_a_pid_that_was_reaped() -> None:
    with pytest.raises(UsageError, match="reuse_pid=True with topology='child'"):
        Knobs(reuse_pid=True)


def test_every_function_of_the_suite_is_a_case() -> None:
    for function in CASES.values():
        assert inspect.isfunction(function)
        assert set(inspect.signature(function).parameters) >= {"contract"}
