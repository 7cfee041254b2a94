"""How a process receives signals, and why a VM would not hear one that is sent now."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from fakes import Spawn, await_line

from pytest_gracekill.child.mark import state
from pytest_gracekill.child.reception import reception, why_unheard

if TYPE_CHECKING:
    from pytest_gracekill.child.handle import FakeQemu

TERM = signal.SIGTERM


def reason(vm: FakeQemu, signum: int) -> str | None:
    """Why the VM cannot act on a signal, in one word."""
    why = why_unheard(vm, signum)
    return None if why is None else why.reason


def stopped(pid: int) -> None:
    """Stop a child of ours; returns when the kernel has done it."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


def test_a_vm_that_serves_hears_every_stop_signal(fake: Spawn) -> None:
    vm = fake()
    assert [reason(vm, number) for number in (1, 2, 15)] == [None] * 3


def test_a_stopped_vm_hears_nothing_until_it_goes_on(fake: Spawn) -> None:
    vm = fake(flush_time=0.02)
    stopped(vm.pid)
    assert str(why_unheard(vm, TERM)) == "the VM was stopped (state T)"
    os.kill(vm.pid, TERM)
    seen = reception(vm.pid)
    assert seen is not None
    assert (seen.stopped, TERM in seen.pending) == (True, True)
    os.kill(vm.pid, signal.SIGCONT)
    assert vm.wait(20).code == 0


def test_a_vm_that_is_about_to_stop_hears_nothing(fake: Spawn) -> None:
    vm = fake()
    seen = set()
    for _ in range(300):
        os.kill(vm.pid, signal.SIGSTOP)  # the kernel does it when the VM is next scheduled
        seen.add(reason(vm, TERM))
        os.kill(vm.pid, signal.SIGCONT)
    assert seen == {"stopped"}


def test_a_blocked_signal_is_not_heard_but_the_others_are(fake: Spawn) -> None:
    vm = fake(inherit="blocked")
    assert [reason(vm, number) for number in (15, 2, 1)] == ["blocked", None, None]


def test_qemu_takes_a_signal_that_its_parent_ignores(fake: Spawn) -> None:
    assert why_unheard(fake(inherit="ignored"), TERM) is None


@pytest.mark.parametrize(
    ("inherit", "why"),
    [("none", "not ready"), ("blocked", "blocked"), ("ignored", "ignored")],
)
def test_a_vm_that_is_ready_before_its_handlers_are_in(fake: Spawn, inherit: str, why: str) -> None:
    vm = fake(ready_after=30.0, inherit=inherit)
    assert reason(vm, TERM) == why


def test_its_handlers_come_in(fake: Spawn) -> None:
    vm = fake(ready_after=0.05)
    assert await_line(vm, "handlers").fields["signals"] == [1, 2, 15]
    assert why_unheard(vm, TERM) is None


def test_a_vm_without_handlers_waits_for_none(fake: Spawn) -> None:
    assert why_unheard(fake(on_term="default"), TERM) is None


def test_a_leaderless_vm_is_judged_by_the_threads_that_live(fake: Spawn) -> None:
    vm = fake(topology="leaderless")
    assert state(vm.pid) == "Z"
    assert why_unheard(vm, TERM) is None


def test_a_dead_vm_has_no_reason(fake: Spawn) -> None:
    vm = fake()
    vm.kill()
    assert why_unheard(vm, TERM) is None
    assert reception(vm.pid) is None


def test_a_zombie_has_no_living_thread() -> None:
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        seen = reception(child.pid)
        assert seen is not None
        assert (seen.states, seen.state, seen.stopped) == (frozenset(), "Z", False)


def test_masks_are_those_of_the_process() -> None:
    script = (
        "import signal, sys\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGRTMAX])\n"
        "print(flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        os.kill(child.pid, signal.SIGUSR1)
        seen = reception(child.pid)
        child.kill()
    assert seen is not None
    assert seen.blocked == {signal.SIGUSR1, signal.SIGRTMAX}
    assert seen.pending == {signal.SIGUSR1}
    assert signal.SIGHUP in seen.ignored
    assert signal.SIGTERM in seen.caught
    assert "; pending 10; blocked 10, 64; ignored 1" in str(seen)
