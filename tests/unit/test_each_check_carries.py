"""No verdict is carried by another's luck: without its check a flaw slips through, with it not.

Each routine here breaks one thing only. It is tried with all checks, and without the one that has
to see it: then it passes.
"""

from __future__ import annotations

import os
import runpy
import select
import signal
import subprocess
import threading
import time
from inspect import isfunction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_gracekill import verdicts
from pytest_gracekill.report import VERDICTS, Verdict
from pytest_gracekill.routine.flags import KillFlags
from pytest_gracekill.routine.policy import KillPolicy
from pytest_gracekill.routine.process_kill import process_kill
from pytest_gracekill.verdicts import escalation, identity, locks, outcome, progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from pytest_gracekill.fixtures import Judge
    from pytest_gracekill.report import Report
    from pytest_gracekill.routine.model import Domain, Driver
    from pytest_gracekill.routine.result import KillResult

FLAWS = Path(__file__).parents[1] / "flaws"


class Broken(NamedTuple):
    """A routine that breaks one thing, and its trial; ``made`` gives both anew for each trial."""

    word: str
    made: Callable[[], tuple[Callable[..., object], dict[str, Any]]]


def flaw(word: str, name: str, **changes: Any) -> Broken:
    """One of the files of flaws, in a trial of few contenders."""

    def made() -> tuple[Callable[..., object], dict[str, Any]]:
        found = runpy.run_path(str(FLAWS / f"flaw_{name}.py"))
        routines = [
            value
            for key, value in found.items()
            if not key.startswith("_") and isfunction(value) and value.__module__ == "<run_path>"
        ]
        return routines[-1], {**found["TRIAL"], **changes}

    return Broken(word, made)


def own(word: str, routine: Callable[..., object], **trial: Any) -> Broken:
    return Broken(word, lambda: (routine, trial))


def tried(gracekill: Judge, broken: Broken) -> Report:
    routine, trial = broken.made()
    return gracekill(routine, **trial)


def words(report: Report) -> dict[str, tuple[str, ...]]:
    """What is not ok, by verdict."""
    return {
        name: (verdict.word, *verdict.also)
        for name, verdict in report.verdicts.items()
        if verdict.status != "ok"
    }


# -- routines


def _exited(pidfd: int, seconds: float) -> bool:
    exited = select.poll()
    exited.register(pidfd, select.POLLIN)
    return bool(exited.poll(seconds * 1000))


_LOCK = threading.Lock()


def _take() -> None:
    with _LOCK:
        pass


def holds_an_unknown_lock(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        with _LOCK:
            os.kill(pid, signal.SIGTERM)
            _exited(pidfd, 10)
    finally:
        os.close(pidfd)


_ASKED = threading.Event()


def _status() -> None:
    if _ASKED.is_set():
        raise ConnectionResetError("the monitor is gone")


def upsets_others(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        _ASKED.set()
        os.kill(pid, signal.SIGTERM)
        _exited(pidfd, 10)
        # until the other thread has seen it
        time.sleep(0.1)
    finally:
        os.close(pidfd)


def kills_after(popen: subprocess.Popen[bytes]) -> None:
    popen.terminate()
    try:
        popen.wait(0.4)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()


def signals_a_stranger_first(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        try:
            os.kill(os.getppid(), signal.SIGTERM)
        except PermissionError:
            os.kill(pid, signal.SIGTERM)
        _exited(pidfd, 10)
    finally:
        os.close(pidfd)


def asks_twice(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    assert domain.pid is not None
    os.kill(domain.pid, signal.SIGTERM)
    return process_kill(driver, domain, flags)


def gives_up_too_early(popen: subprocess.Popen[bytes]) -> bool:
    popen.terminate()
    popen.wait()
    time.sleep(0.1)
    return False


def keeps_the_domain_lock(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    return process_kill(driver, domain, flags, policy=KillPolicy(drop="driver"))


def _want_the_domain(driver: Driver, domain: Domain) -> None:
    with domain.lock:
        pass


def takes_it_again_and_again(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    """Each hold is a small part of the wait, and nobody gets far in between."""
    assert domain.pid is not None
    pidfd = os.pidfd_open(domain.pid)
    try:
        os.kill(domain.pid, signal.SIGTERM)
        driver.lock.release()
        while not _exited(pidfd, 0.08):
            domain.lock.release()
            time.sleep(0.002)
            domain.lock.acquire()
        domain.lock.release()
        driver.lock.acquire()
        domain.lock.acquire()
        return True
    finally:
        os.close(pidfd)


FORCE = KillFlags.FORCE
#: A VM that has flushed and does not exit: killing it loses nothing.
LINGERS: dict[str, Any] = {"flush_time": 0.05, "linger": 5.0}

NEVER_KILLED = flaw("NEVER KILLED", "escalation_bitwise", contenders=0)
LEAKED = flaw("LEAKED", "kill_result_ignored", contenders=0)
WRONG_VM = flaw("WRONG VM", "restarted_meanwhile", contenders=0)
SLOW_WORK = own("STALLED", holds_an_unknown_lock, flush_time=0.6, contend=[_take], stall_limit=0.2)


# -- whole verdicts

VERDICT: dict[str, Broken] = {
    "data": flaw("DATA LOST", "grace_too_short", survive=0.1),
    "escalation": NEVER_KILLED,
    "outcome": LEAKED,
    "promptness": flaw("SLOW", "sleeps_full_grace", slack=0.3),
    "deadlock": flaw("LOCK ORDER", "lock_order_retake_listed", contenders=0),
    "locks": flaw("LOCK LOST", "lock_not_restored_gone", contenders=0),
    "progress": SLOW_WORK,
    "identity": WRONG_VM,
    "leftovers": flaw("ORPHANS", "leftover_children"),
}


def test_every_verdict_is_tried() -> None:
    assert tuple(VERDICT) == VERDICTS


@pytest.mark.parametrize("name", VERDICTS)
def test_a_verdict_carries_its_flaw_alone(
    gracekill: Judge, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    report = tried(gracekill, VERDICT[name])
    assert words(report) == {name: (VERDICT[name].word,)}, report
    fine = Verdict(name=name, status="ok", word="ok", evidence="nobody looked")
    monkeypatch.setitem(verdicts.JUDGES, name, lambda _evidence: fine)
    tried(gracekill, VERDICT[name]).check()


# -- single checks

CHECKS: list[tuple[ModuleType, str, Broken]] = [
    (escalation, "_stranger", own("STRANGER", signals_a_stranger_first, flush_time=0.1)),
    (escalation, "_killed_anyway", own("KILLED ANYWAY", kills_after, force=False, **LINGERS)),
    (
        escalation,
        "_killed_early",
        own("KILLED EARLY", kills_after, force=True, survive=1.0, **LINGERS),
    ),
    (escalation, "_never_killed", NEVER_KILLED),
    (
        escalation,
        "_repeated",
        own("REPEATED", asks_twice, flags=FORCE, flush_time=0.1, contenders=0),
    ),
    (outcome, "_claimed_success", LEAKED),
    (outcome, "_claimed_failure", own("LIED", gives_up_too_early, flush_time=0.1)),
    (outcome, "_claimed_signal", flaw("LIED", "wrong_exit_class", contenders=0)),
    (progress, "_raised", own("STALLED", upsets_others, flush_time=0.1, contend=[_status])),
    (
        progress,
        "_held_up",
        own("STALLED", takes_it_again_and_again, flags=FORCE, flush_time=0.8, contenders=("same",)),
    ),
    (progress, "_slow", SLOW_WORK),
    (
        locks,
        "over_wait",
        own(
            "HELD OVER WAIT",
            keeps_the_domain_lock,
            flags=FORCE,
            flush_time=0.5,
            contenders=0,
            at={"first unlock": _want_the_domain},
        ),
    ),
    (identity, "_wrong_vm", WRONG_VM),
    (identity, "_freed", flaw("FREED", "unlock_without_ref", contenders=0)),
    (identity, "_twice", flaw("TWICE", "eof_vs_destroy", contenders=0)),
]


@pytest.mark.parametrize(
    ("module", "check", "broken"),
    CHECKS,
    ids=[f"{module.__name__.rpartition('.')[2]}{check}" for module, check, _ in CHECKS],
)
def test_a_check_carries_its_flaw_alone(
    gracekill: Judge,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    check: str,
    broken: Broken,
) -> None:
    name = module.__name__.rpartition(".")[2]
    _ASKED.clear()
    report = tried(gracekill, broken)
    assert words(report) == {name: (broken.word,)}, report
    nothing: object = [] if check == "over_wait" else None
    monkeypatch.setattr(module, check, lambda _evidence: nothing)
    _ASKED.clear()
    tried(gracekill, broken).check()
