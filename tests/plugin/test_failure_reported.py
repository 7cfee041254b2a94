"""What counts as failure reported, and that the clean-up runs and hides nothing.

The claim is held against the facts in both directions: a failure is truthful of a VM that lives on,
and a lie about one that is dead; a success the other way round.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from test_adapters import supervised

from pytest_gracekill import External, KillResult
from pytest_gracekill.errors import UsageError

if TYPE_CHECKING:
    from pytest_gracekill.child.unstarted import Child
    from pytest_gracekill.fixtures import Judge

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)

LONG = 20.0


class StillThereError(Exception):
    """As a manager raises when its VM does not end."""


def raises() -> object:
    raise StillThereError("vm")


FAILURES: dict[str, Callable[[], object]] = {
    "raises": raises,
    "False": lambda: False,
    "KillResult": lambda: KillResult(ok=False),
    "an ok of somebody's": lambda: SimpleNamespace(ok=False),
}
SUCCESSES: dict[str, Callable[[], object]] = {
    "None": lambda: None,
    "True": lambda: True,
    "0": lambda: 0,
    "1": lambda: 1,
    "a text": lambda: "timed out",
    "an empty list": list,
    "KillResult": lambda: KillResult(ok=True),
    "an ok of somebody's": lambda: SimpleNamespace(ok=True),
}
BOTH = [
    *((name, claim, False) for name, claim in FAILURES.items()),
    *((name, claim, True) for name, claim in SUCCESSES.items()),
]


def claims(claim: Callable[[], object], *, dies: bool) -> Callable[[int], object]:
    """Asks it to end, waits until it has, or for a while, and claims something."""

    def routine(pid: int) -> object:
        os.kill(pid, signal.SIGTERM)
        while dies and Path(f"/proc/{pid}").exists():
            time.sleep(0.01)
        time.sleep(0.1)  # a death in the last milliseconds can't be known
        return claim()

    return routine


@pytest.mark.parametrize(("name", "claim", "success"), BOTH)
def test_a_claim_about_a_vm_that_lives_on(
    gracekill: Judge,
    name: str,
    claim: Callable[[], object],
    success: bool,  # noqa: FBT001
) -> None:
    report = gracekill(claims(claim, dies=False), on_term="ignore")
    assert report.calls[0].success == success
    assert isinstance(report.error, StillThereError) == (name == "raises")
    word = "LEAKED" if success else "ok"
    assert report.verdicts["outcome"].word == word, report
    assert "data" in report.not_judged


@pytest.mark.parametrize(("name", "claim", "success"), BOTH)
def test_a_claim_about_a_vm_that_is_dead(
    gracekill: Judge,
    name: str,
    claim: Callable[[], object],
    success: bool,  # noqa: FBT001
) -> None:
    report = gracekill(claims(claim, dies=True), flush_time=0)
    assert report.calls[0].success == success
    word = "ok" if success else "RAISED" if name == "raises" else "LIED"
    assert report.verdicts["outcome"].word == word, report


@pytest.mark.parametrize(
    ("status", "knobs", "word"),
    [
        (0, {"flush_time": 0}, "ok"),
        (1, {"flush_time": 0}, "LIED"),
        (0, {"on_term": "ignore"}, "LEAKED"),
        (1, {"on_term": "ignore"}, "ok"),
        (127, {"on_term": "ignore"}, "ok"),
    ],
)
def test_the_status_of_a_command_is_its_claim(
    gracekill: Judge, status: int, knobs: dict[str, object], word: str
) -> None:
    wait = "while [ -e /proc/{pid} ]; do sleep 0.01; done" if "flush_time" in knobs else "true"
    stop = External(stop=f"sh -c 'kill {{pid}}; {wait}; sleep 0.1; exit {status}'")
    report = gracekill(stop, **knobs)  # type: ignore[arg-type]
    assert report.calls[0].success == (status == 0)
    assert report.verdicts["outcome"].word == word, report
    assert str(report.result) == f"exit {status}"


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "alive"])
def test_what_succeeded_says_counts(gracekill: Judge, killed: bool) -> None:  # noqa: FBT001
    asked: list[object] = []

    def succeeded(result: object) -> bool:
        asked.append(result)
        return result == "timed out"  # upside down, so that it can't be by chance

    report = gracekill(
        claims(lambda: "timed out", dies=killed),
        succeeded=succeeded,
        on_term="flush" if killed else "ignore",
        flush_time=0,
    )
    assert asked == ["timed out"]
    assert report.calls[0].success is True
    assert report.verdicts["outcome"].word == ("ok" if killed else "LEAKED")


@pytest.mark.parametrize("says", [True, False], ids=["runs", "has ended"])
@pytest.mark.parametrize("how", ["plain", "async"])
def test_what_the_manager_says_of_its_vm_counts(gracekill: Judge, how: str, says: bool) -> None:  # noqa: FBT001
    async def later() -> bool:
        await asyncio.sleep(0)
        return says

    def manager(child: Child) -> Iterator[object]:
        vm = subprocess.Popen(child.argv)
        yield (lambda: None), ((lambda: says) if how == "plain" else later)
        vm.wait(LONG)

    report = gracekill(manager)
    # nothing was returned; a manager that says that it runs has not said that it is gone
    assert report.calls[0].success == (not says)
    assert report.verdicts["outcome"].word == ("ok" if says else "LEAKED")


# -- the clean-up


class Cleaner:
    """An adapter that notes its clean-up, and may raise there."""

    def __init__(
        self, stop: Callable[[subprocess.Popen[bytes]], object], raising: str = ""
    ) -> None:
        self.done = 0
        self._stop = stop
        self._raising = raising

    def plain(self, child: Child) -> Iterator[Callable[[], object]]:
        vm = subprocess.Popen(child.argv)
        child.wait_ready()
        yield lambda: self._stop(vm)
        self._finish(vm)

    async def aio(self, child: Child) -> AsyncIterator[Callable[[], object]]:
        vm = subprocess.Popen(child.argv)  # noqa: ASYNC220 - as people do
        child.wait_ready()
        yield lambda: self._stop(vm)
        await asyncio.sleep(0)
        self._finish(vm)

    def _finish(self, vm: subprocess.Popen[bytes]) -> None:
        self.done += 1
        vm.kill()
        vm.wait(LONG)
        if self._raising:
            raise LookupError(self._raising)


def stops(vm: subprocess.Popen[bytes]) -> None:
    vm.terminate()
    vm.wait(LONG)


def kills(vm: subprocess.Popen[bytes]) -> None:
    vm.kill()
    vm.wait(LONG)


def hangs(_vm: subprocess.Popen[bytes]) -> None:
    threading.Event().wait()


def fails(_vm: subprocess.Popen[bytes]) -> None:
    raise StillThereError("vm")


def interrupts(_vm: subprocess.Popen[bytes]) -> None:
    signal.raise_signal(signal.SIGINT)


forms = pytest.mark.parametrize("form", ["plain", "aio"])


@forms
@pytest.mark.parametrize(
    ("stop", "verdict", "word"),
    [
        (stops, "outcome", "ok"),
        (kills, "data", "DATA LOST"),
        (hangs, "promptness", "HUNG"),
        (fails, "outcome", "ok"),
    ],
)
def test_the_clean_up_always_runs(
    gracekill: Judge, form: str, stop: Callable[..., object], verdict: str, word: str
) -> None:
    cleaner = Cleaner(stop)
    report = gracekill(getattr(cleaner, form), flush_time=0.1, budget=1.0)
    assert report.verdicts[verdict].word == word
    assert cleaner.done == 1
    assert report.clean_up is None


@forms
def test_it_runs_when_the_user_interrupts(gracekill: Judge, form: str) -> None:
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    cleaner = Cleaner(interrupts, raising="no port")
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            gracekill(getattr(cleaner, form), flush_time=0.1)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert cleaner.done == 1
    (note,) = caught.value.__notes__
    assert note.startswith(
        f"the clean-up of the adapter Cleaner.{form} failed, too: LookupError: no port at "
    )
    assert note.endswith(" in Cleaner._finish: `raise LookupError(self._raising)`")


def test_it_runs_when_the_adapter_is_wrong(gracekill: Judge) -> None:
    cleaner = Cleaner(stops, raising="no port")

    def wrong(child: Child) -> Iterator[object]:
        steps = cleaner.plain(child)
        yield next(steps), (lambda: "perhaps")
        next(steps, None)

    with pytest.raises(UsageError, match="returned 'perhaps'") as caught:
        gracekill(wrong, flush_time=0.1)
    assert cleaner.done == 1
    assert "failed, too: LookupError: no port" in caught.value.__notes__[0]


@forms
@pytest.mark.parametrize("names", [(), ("data",), ("outcome", "leftovers")])
def test_what_it_raises_fails_every_check(
    gracekill: Judge, form: str, names: tuple[str, ...]
) -> None:
    report = gracekill(getattr(Cleaner(stops, raising="no port"), form), flush_time=0.1)
    assert {verdict.status for verdict in report.verdicts.values()} == {"ok"}
    assert not report.ok
    with pytest.raises(AssertionError) as caught:
        report.check(*names)
    assert caught.value.__cause__ is report.clean_up
    lines = str(caught.value).splitlines()
    assert lines[0] == "gracekill: CLEAN-UP FAILED (LookupError: no port)"
    assert "the adapter's clean-up failed: LookupError: no port" in lines


@forms
def test_what_it_raises_does_not_replace_what_the_trial_has_found(
    gracekill: Judge, form: str
) -> None:
    report = gracekill(getattr(Cleaner(kills, raising="no port"), form), flush_time=0.1)
    with pytest.raises(AssertionError) as caught:
        report.check()
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("gracekill: DATA LOST (64 of 64 blocks: 0-63), NEVER ASKED")
    assert "the adapter's clean-up failed, too: LookupError: no port" in lines
    assert isinstance(report.clean_up, LookupError)


def test_a_daemon_that_restarts_what_the_trial_has_killed_is_no_misuse(gracekill: Judge) -> None:
    ignores = supervised(signal="SIGCHLD", background=True, forget=True, restart=True)
    report = gracekill(ignores)
    assert report.verdicts["outcome"].word == "LEAKED"
