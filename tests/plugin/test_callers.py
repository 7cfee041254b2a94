"""Several callers stop the same VM: routines of every kind, the seed's first of all."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gracekill import (
    LIBVIRT_0_9_10,
    Domain,
    Driver,
    External,
    KillFlags,
    KillPolicy,
    KillResult,
    process_kill,
)
from pytest_gracekill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gracekill import Report
    from pytest_gracekill.fixtures import Judge


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    yield
    names = [thread.name for thread in threading.enumerate()]
    assert [name for name in names if name.startswith("gracekill")] == []


def words(report: Report) -> dict[str, str]:
    return {
        name: ", ".join((verdict.word, *verdict.also))
        for name, verdict in report.verdicts.items()
        if verdict.status != "ok"
    }


def results(report: Report) -> list[KillResult]:
    found = [call.result for call in report.calls]
    return [result for result in found if isinstance(result, KillResult)]


@pytest.mark.parametrize("flags", [KillFlags.FORCE, KillFlags(0)], ids=["force", "graceful"])
@pytest.mark.parametrize("callers", [2, 4])
def test_the_seeds_routine(gracekill: Judge, callers: int, flags: KillFlags) -> None:
    report = gracekill(process_kill, callers=callers, flags=flags, flush_time=0.4)
    report.check()
    assert not report.not_judged
    assert [(r.ok, r.dead, r.signal) for r in results(report)] == [(True, True, 15)] * callers
    # one of them has asked; all of them have come to wait at the same time
    sent = [event for event in report.history.events() if event.kind == "signal"]
    assert len([event for event in sent if event.actor != "fake"]) == 1
    calls = [event for event in report.history.events() if event.kind in ("call", "return")]
    assert [event.kind for event in calls] == ["call"] * callers + ["return"] * callers
    assert [event.actor for event in calls[:2]] == ["MainThread", "gracekill:caller-2"] or (
        callers == 4
    )


def test_a_forced_one_joins(gracekill: Judge) -> None:
    """The flush is longer than the grace: one SIGKILL ends it, and both know it."""
    report = gracekill(
        process_kill,
        callers=2,
        flags=KillFlags.FORCE,
        policy=KillPolicy(grace=0.3),
        flush_time=5.0,
        survive=0.3,
    )
    assert words(report) == {"data": "DATA LOST"}
    assert [(r.ok, r.dead, r.signal) for r in results(report)] == [(True, True, 9)] * 2


def test_nobody_waits_long_enough(gracekill: Judge) -> None:
    report = gracekill(
        process_kill, callers=3, policy=KillPolicy(grace=0.3, reap=0.2), flush_time=1.0
    )
    report.check()
    assert [(r.ok, r.dead) for r in results(report)] == [(False, False)] * 3
    assert report.verdicts["outcome"].evidence.startswith("returned KillResult(alive")


def test_one_that_keeps_the_locks_has_the_others_wait(gracekill: Judge) -> None:
    """The second one gets in when the first is done, and has a budget of its own from then on."""
    report = gracekill(
        process_kill,
        callers=2,
        flags=KillFlags.FORCE,
        policy=LIBVIRT_0_9_10,
        flush_time=0.5,
        contenders=0,
    )
    # the second caller is one who wants the locks, too
    assert words(report) == {"locks": "HELD OVER WAIT"}
    assert "wanted meanwhile by caller-2" in report.verdicts["locks"].evidence
    assert [(r.ok, r.dead) for r in results(report)] == [(True, True)] * 2


def test_a_late_one_has_its_own_budget(gracekill: Judge) -> None:
    def stop(driver: Driver, domain: Domain) -> bool:
        time.sleep(0.8)
        assert domain.pid is not None
        if threading.current_thread().name == "MainThread":
            os.kill(domain.pid, signal.SIGTERM)
        return not _ended(domain.pid, 0.01)

    report = gracekill(stop, callers=2, contenders=0, budget=1.2, flush_time=0.1, slack=2)
    assert "HUNG" not in report.headline()
    assert all(call.success is not None for call in report.calls)


def _ended(pid: int, seconds: float) -> bool:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    exited = select.poll()
    exited.register(pidfd, select.POLLIN)
    try:
        return bool(exited.poll(seconds * 1000))
    finally:
        os.close(pidfd)


def asks_each_time(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    assert domain.pid is not None
    domain.ref()
    if not _ended(domain.pid, 0):
        os.kill(domain.pid, signal.SIGTERM)  # FLAW: whoever else has asked already
    domain.lock.release()
    driver.lock.release()
    try:
        return _ended(domain.pid, 10)
    finally:
        driver.lock.acquire()
        domain.lock.acquire()
        domain.unref()


def test_a_second_sigterm_counts_for_routines_with_a_driver(gracekill: Judge) -> None:
    report = gracekill(asks_each_time, callers=2, flags=KillFlags.FORCE, flush_time=0.4)
    assert words(report) == {"escalation": "REPEATED"}
    assert "2 stop signals for one VM" in report.verdicts["escalation"].evidence


def loses_a_lock(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    result = process_kill(driver, domain, flags)
    if threading.current_thread().name == "gracekill:caller-3":
        domain.lock.release()  # FLAW
    return result


def test_the_one_who_loses_a_lock_is_named(gracekill: Judge) -> None:
    report = gracekill(loses_a_lock, callers=3, flags=KillFlags.FORCE, flush_time=0.3)
    assert words(report) == {"locks": "LOCK LOST"}
    assert report.verdicts["locks"].evidence.startswith(
        "caller-3: held at entry: driver and domain vm; at return: driver;"
    )


def by_name(popen: subprocess.Popen[bytes]) -> object:
    """What each caller does is told by its number."""
    return BEHAVIOURS[threading.current_thread().name.rpartition("-")[2]](popen)


def right(popen: subprocess.Popen[bytes]) -> bool:
    popen.terminate()
    return popen.wait(10) == 0


def exits(popen: subprocess.Popen[bytes]) -> None:
    popen.wait(10)
    time.sleep(0.05)
    raise SystemExit(3)


BEHAVIOURS = {"MainThread": right, "2": right, "3": exits}


def test_popen_and_one_that_calls_exit(gracekill: Judge) -> None:
    gracekill(by_name, callers=2, flush_time=0.2).check()
    report = gracekill(by_name, callers=3, flush_time=0.2)
    assert words(report) == {"outcome": "RAISED"}
    assert report.verdicts["outcome"].evidence.startswith("caller-3: raised SystemExit: 3;")
    assert [str(call) for call in report.calls[:2]] == ["returned True"] * 2


def test_a_generator_is_cleaned_up_once(gracekill: Judge) -> None:
    steps: list[str] = []
    asked = threading.Lock()

    def manage(child: Any) -> Iterator[Any]:
        process = subprocess.Popen(child.argv, stdin=subprocess.DEVNULL)
        child.wait_ready()

        def stop() -> bool:
            with asked:
                steps.append("stop")
                process.terminate()
            return process.wait(10) == 0

        yield stop, lambda: process.poll() is None
        steps.append("clean-up")

    report = gracekill(manage, callers=3, flush_time=0.3)
    report.check()
    assert steps == ["stop"] * 3 + ["clean-up"]
    assert len(report.calls) == 3


def test_commands_at_once(gracekill: Judge) -> None:
    script = "kill -TERM $0; while kill -0 $0 2>/dev/null; do sleep 0.02; done"
    report = gracekill(External(stop=["sh", "-c", script, "{pid}"]), callers=3, flush_time=0.4)
    report.check()
    assert [call.success for call in report.calls] == [True] * 3


def test_commands_that_hang_are_cut_off(gracekill: Judge) -> None:
    report = gracekill(
        External(stop=["sh", "-c", "sleep 60", "{pid}"]), callers=2, flush_time=0.1, budget=0.6
    )
    assert words(report) == {"promptness": "HUNG"}
    assert [call.success for call in report.calls] == [None, None]
    assert report.verdicts["promptness"].evidence.endswith("in its stop command")


def test_one_that_starts_the_vm_in_its_call_has_one_caller(gracekill: Judge) -> None:
    def run(child: Any) -> None:
        raise AssertionError("it was called")

    with pytest.raises(UsageError, match=r"callers=2: .* starts the VM in the same call"):
        gracekill(run, callers=2)
    wrong: list[Any] = [0, 33, True, 1.0, "2"]
    for callers in wrong:
        with pytest.raises(UsageError, match="a number of callers from 1 to 32 is needed"):
            gracekill(process_kill, callers=callers)


def test_a_cut_off_call_is_told_with_the_stacks_of_all_threads(gracekill: Judge) -> None:
    gate = threading.Lock()  # traced by nobody
    waits = threading.Event()

    def stands_beside() -> None:
        waits.set()
        with gate:
            pass

    def destroy(pid: int) -> None:
        os.kill(pid, signal.SIGTERM)
        with gate:
            pass

    with gate:
        beside = threading.Thread(target=stands_beside, name="my-worker", daemon=True)
        beside.start()
        assert waits.wait(20)
        report = gracekill(destroy, flush_time=0.1, budget=1.0)
    beside.join(20)
    assert report.verdicts["promptness"].word == "HUNG"
    told = "\n".join(report.verdicts["promptness"].detail)
    assert "in destroy" in told
    own, _, others = told.partition("my-worker stood in:")
    assert "in stands_beside" in others
    assert "in stands_beside" not in own
    assert "watchdog" not in told
