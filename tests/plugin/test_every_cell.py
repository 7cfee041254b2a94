"""Each kind of routine with each report in each state of the VM gets the words of its cell."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import select
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from docs.outcomes import CELLS, REPORTS, STATES
from pytest_gracekill import Child, Domain, Driver, External

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import psutil

    from pytest_gracekill import Report
    from pytest_gracekill.fixtures import Judge

#: More than the 20 ms within which an end need not be known, in seconds.
LONG = 0.05

#: An end that long ago is known, in nanoseconds.
KNOWN = 20_000_000

#: Kinds of routine whose VM is a child of the process that the routine runs in.
OWN = ("popen", "process", "manager", "one call", "async manager", "multiprocessing")
#: Kinds that start the VM themselves, and so can start it again.
STARTS = ("manager", "one call", "async manager", "external")
KINDS = (*OWN, "pid", "async", "driver", "external")
EXPLORED = ("pid", "popen", "driver")


class StopEverything(BaseException):
    """An exception that no routine handles."""


def report_of(report: str) -> object:
    """Return or raise what is reported."""
    match report:
        case "success":
            return None
        case "False":
            return False
        case "time-out":
            raise TimeoutError("not gone")
        case "exception":
            raise RuntimeError("no such session")
        case "BaseException":
            raise StopEverything
        case _:
            raise asyncio.CancelledError


def await_end(pid: int) -> None:
    """Wait until a process has ended, and leave its status to others."""
    fd = os.pidfd_open(pid)
    try:
        select.select([fd], [], [], 20)
    finally:
        os.close(fd)


def nobody() -> NoReturn:
    raise AssertionError("this kind of routine cannot start its VM again")


def bring(
    state: str,
    pid: int,
    *,
    reap: Callable[[], object],
    again: Callable[[], object] = nobody,
) -> None:
    """Bring a VM into the state in which the report is made."""
    if state == "never asked":
        return
    os.kill(pid, signal.SIGTERM)
    if state in ("flushing", "lives on"):
        return
    await_end(pid)
    if state == "long dead":
        time.sleep(LONG)
    elif state in ("reaped", "restarted"):
        reap()
    if state == "restarted":
        again()


def routine_of(kind: str, state: str, report: str) -> Any:  # noqa: C901 - one of each kind
    """The routine of this kind that brings its VM into this state, and reports this."""

    def pid_(pid: int) -> object:
        bring(state, pid, reap=lambda: None)
        return report_of(report)

    def popen_(popen: subprocess.Popen[bytes]) -> object:
        bring(state, popen.pid, reap=popen.wait)
        return report_of(report)

    def process_(process: psutil.Process) -> object:
        bring(state, process.pid, reap=process.wait)
        return report_of(report)

    def driver_(driver: Driver, domain: Domain) -> object:
        assert domain.pid is not None
        bring(state, domain.pid, reap=lambda: None)
        return report_of(report)

    async def async_(pid: int) -> object:
        bring(state, pid, reap=lambda: None)
        return report_of(report)

    def manager(child: Child) -> Iterator[Callable[[], object]]:
        running = [subprocess.Popen(child.argv)]

        def again() -> None:
            running.append(subprocess.Popen(child.argv))

        def stop() -> object:
            bring(state, running[0].pid, reap=running[0].wait, again=again)
            return report_of(report)

        yield stop
        for vm in running:
            vm.kill()
            vm.wait()

    def one_call(child: Child) -> object:
        running = [subprocess.Popen(child.argv)]
        child.wait_ready()
        try:
            bring(
                state,
                running[0].pid,
                reap=running[0].wait,
                again=lambda: running.append(subprocess.Popen(child.argv)),
            )
            return report_of(report)
        finally:
            # the zombie of a VM that is to be taken for one that was not reaped stays
            if state in ("reaped", "restarted"):
                running[0].wait()

    async def async_manager(child: Child) -> AsyncIterator[Callable[[], object]]:
        running = [subprocess.Popen(child.argv)]  # noqa: ASYNC220 - reaped by the routine itself

        async def stop() -> object:
            bring(
                state,
                running[0].pid,
                reap=running[0].wait,
                again=lambda: running.append(subprocess.Popen(child.argv)),
            )
            return report_of(report)

        yield stop
        for vm in running:
            vm.kill()
            vm.wait()

    def multiprocessing_(child: Child) -> Iterator[Callable[[], object]]:
        vm = multiprocessing.get_context("fork").Process(target=child.target)
        vm.start()

        def stop() -> object:
            assert vm.pid is not None
            bring(state, vm.pid, reap=vm.join)
            return report_of(report)

        yield stop
        vm.kill()
        vm.join()

    return {
        "pid": pid_,
        "popen": popen_,
        "process": process_,
        "driver": driver_,
        "async": async_,
        "manager": manager,
        "one call": one_call,
        "async manager": async_manager,
        "multiprocessing": multiprocessing_,
        "external": _external(state, report),
    }[kind]


def _external(state: str, report: str) -> External:
    """A shell that starts the VM in the background, and reports by its status."""
    ends = "while [ -e /proc/{pid} ]; do sleep 0.002; done"
    steps = {
        "never asked": "",
        "flushing": "kill {pid}",
        "lives on": "kill {pid}",
        "just dead": f"kill {{pid}}; {ends}",
        "long dead": f"kill {{pid}}; {ends}; sleep {LONG}",
        "reaped": f"kill {{pid}}; {ends}; sleep {LONG}",
        "restarted": f"kill {{pid}}; {ends}; {{program}} & sleep {LONG}",
    }[state]
    status = 0 if report == "success" else 1
    return External(
        start=["sh", "-c", "{program} & wait"], stop=["sh", "-c", f"{steps}\nexit {status}"]
    )


def since_the_end(report: Report) -> int:
    """Nanoseconds from the end of the VM, as it was seen from outside, to the return."""
    at = {event.kind: event.at_ns for event in report.history.events()}
    return at["return"] - at["gone"]


def words(report: Report) -> set[str]:
    """Every broken word; UNKNOWN and the verdict's name where nothing was concluded."""
    found = set()
    for verdict in report.verdicts.values():
        if verdict.status == "broken":
            found |= {verdict.word, *verdict.also}
        elif verdict.status == "unknown":
            found.add(f"UNKNOWN {verdict.name}")
    return found


def applies(kind: str, report: str, state: str) -> bool:
    """Whether a routine of this kind can report this in this state."""
    if state == "restarted":
        can = kind in STARTS
    elif state == "reaped":
        can = kind in OWN or kind == "external"
    else:
        # its shell looks every 2 ms, and takes as long to end: nothing is just dead then
        can = kind != "external" or state != "just dead"
    return can and (kind != "external" or report in ("success", "False"))


CASES = [
    (kind, report, state)
    for kind in KINDS
    for report in REPORTS
    for state in STATES
    if applies(kind, report, state)
]


@pytest.mark.parametrize(
    ("kind", "report", "state"), CASES, ids=["-".join(case).replace(" ", "_") for case in CASES]
)
def test_cell(gracekill: Judge, kind: str, report: str, state: str) -> None:
    knobs: dict[str, Any] = {"flush_time": 0.1, "blocks": 4}
    if state == "flushing":
        knobs["flush_time"] = 0.5
    if state == "lives on":
        knobs |= {"flush_profile": "never", "budget": 1.5}
    # not 0: a request that was sent is noted by the VM a moment later
    settle = 1.0 if state == "restarted" else 0.1
    found = gracekill(routine_of(kind, state, report), settle=settle, contenders=0, **knobs)
    if state == "just dead" and since_the_end(found) >= KNOWN:
        state = "long dead"  # a busy machine let the routine stand before its report
    cell = CELLS[report, state]
    assert words(found) == set(cell.words), f"{cell}\n{found}"


EXPLORED_CASES = [
    (kind, report, state)
    for kind in EXPLORED
    for report in REPORTS
    for state in ("reaped", "long dead", "just dead", "flushing", "lives on", "never asked")
    if applies(kind, report, state)
]


@pytest.mark.parametrize(
    ("kind", "report", "state"),
    EXPLORED_CASES,
    ids=["-".join(case).replace(" ", "_") for case in EXPLORED_CASES],
)
def test_cell_explored(gracekill: Judge, kind: str, report: str, state: str) -> None:
    """The same where time is exact, and the last look of a routine is known."""
    knobs: dict[str, Any] = {"flush_time": 0.1, "blocks": 4}
    if state == "lives on":
        knobs["flush_profile"] = "never"
    found = gracekill.explore(
        routine_of(kind, state, report), contenders=(), clock="jump", preemptions=0, **knobs
    )
    cell = CELLS[report, state]
    if state == "just dead" and report in ("False", "time-out"):
        # it has seen the end itself
        cell = CELLS[report, "reaped"]
    seen = set() if found.failure is None else words(found.failure)
    assert seen == set(cell.words), f"{cell}\n{found}"
