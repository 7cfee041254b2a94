"""Right routines in unusual clothes, and wrong ones that look innocent."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gracekill.child import mark as marks
from pytest_gracekill.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.child.unstarted import Child
    from pytest_gracekill.fixtures import Judge

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)


def ended(pid: int, seconds: float) -> bool:
    """Whether it ends in time; one that is ours is left to be reaped."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)


def sweeps_the_group(child: Child) -> Iterator[Callable[[], None]]:
    with subprocess.Popen(child.argv, start_new_session=True) as vm:
        child.wait_ready()

        def stop() -> None:
            os.killpg(vm.pid, signal.SIGTERM)
            assert ended(vm.pid, 20)
            os.killpg(vm.pid, signal.SIGKILL)  # whatever is left of it: the VM is a zombie by now

        yield stop


@pytest.mark.parametrize("promise", [{"survive": 2.0}, {"force": False}, {"force": True}])
def test_sigkill_to_what_is_dead_kills_nobody(gracekill: Judge, promise: dict[str, Any]) -> None:
    report = gracekill(sweeps_the_group, flush_time=0.2, **promise)
    report.check()
    assert not report.sigkill_sent


def test_a_command_of_the_routines_own_is_no_stranger(gracekill: Judge) -> None:
    def stop(pid: int) -> bool:
        os.kill(pid, signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(["sleep", "1000"], timeout=0.1, check=False)  # kills it
        return ended(pid, 20)

    gracekill(stop, flush_time=0.3).check()


def test_who_reaps_the_vm_is_none_of_the_routines(gracekill: Judge) -> None:
    def stop(pid: int) -> bool:
        os.kill(pid, signal.SIGTERM)
        with pytest.raises(PermissionError):
            os.kill(int(marks.stat_fields(pid)[1]), signal.SIGKILL)
        return ended(pid, 20)

    assert gracekill(stop, flush_time=0.2).verdicts["escalation"].word == "STRANGER"


@pytest.mark.parametrize("deadly", [signal.SIGABRT, signal.SIGQUIT])
def test_another_deadly_signal_is_no_kinder(gracekill: Judge, deadly: int) -> None:
    def stop(pid: int) -> bool:
        os.kill(pid, signal.SIGTERM)
        if not ended(pid, 0.1):
            os.kill(pid, deadly)
        return ended(pid, 20)

    forced = gracekill(stop, flush_time=1.0)
    assert forced.verdicts["escalation"].word == "KILLED EARLY", forced
    assert forced.verdicts["data"].word == "DATA LOST", forced
    graceful = gracekill(stop, flush_time=1.0, force=False)
    assert graceful.verdicts["escalation"].word == "KILLED ANYWAY", graceful


def test_a_vm_that_was_frozen_is_not_the_machines_fault(gracekill: Judge) -> None:
    def stop(pid: int) -> bool:
        os.kill(pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGTERM)
        if not ended(pid, 0.6):
            os.kill(pid, signal.SIGKILL)
        return ended(pid, 20)

    report = gracekill(stop, flush_time=0.2)
    assert report.verdicts["data"].word == "DATA LOST", report


def test_a_kept_reference_goes_on_when_the_trial_is_over(gracekill: Judge) -> None:
    kept: list[Callable[[int, int], None]] = []

    def stop(pid: int) -> bool:
        kept.append(os.kill)
        os.kill(pid, signal.SIGTERM)
        return ended(pid, 20)

    gracekill(stop, flush_time=0.1).check()
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        kept[0](stranger.pid, signal.SIGTERM)
        assert stranger.wait(20) == -signal.SIGTERM


def test_strangers_are_safe_from_the_clean_up_too(gracekill: Judge) -> None:
    with subprocess.Popen(["sleep", "1000"]) as stranger:

        def manager(child: Child) -> Iterator[Callable[[], object]]:
            with subprocess.Popen(child.argv) as vm:

                def stop() -> None:
                    vm.terminate()
                    vm.wait(20)

                yield stop
            os.kill(stranger.pid, signal.SIGTERM)

        try:
            report = gracekill(manager, flush_time=0.1)
            assert isinstance(report.clean_up, PermissionError)
            with pytest.raises(AssertionError, match="gracekill refuses SIGTERM to a stranger"):
                report.check("data")
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_result_without_a_text_is_told(gracekill: Judge) -> None:
    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("no text")

    def stop(pid: int) -> Shy:
        os.kill(pid, signal.SIGTERM)
        assert ended(pid, 20)
        return Shy()

    report = gracekill(stop, flush_time=0.1)
    report.check()
    assert "returned <Shy whose text raises RuntimeError>" in report.verdicts["outcome"].evidence


@pytest.mark.skipif(os.geteuid() != 0, reason="unshare --pid wants root")
@pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no unshare (util-linux)")
def test_the_first_process_of_a_pid_namespace_is_ended(gracekill: Judge) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def manager(child: Child) -> Iterator[Callable[[], object]]:
        started.append(subprocess.Popen(["unshare", "--pid", "--fork", *child.argv]))
        child.wait_ready(2.0)
        yield started[0].wait

    with pytest.raises(StartError):
        gracekill(manager)
    # unshare waits for it: that it has ended is the end of the fake
    assert started[0].wait(20) is not None
