"""Which process is that, and is it dead? What a kill routine owes to all other processes."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING, cast

import pytest

from pytest_gracekill.child.handle import spawn
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.conformance.apart import CannotError, Failed, enter_pid_namespace, perform
from pytest_gracekill.conformance.disturbances import status_taken
from pytest_gracekill.conformance.refusal import (
    command_without_rights,
    refused,
    without_rights,
)
from pytest_gracekill.conformance.terms import not_judged
from pytest_gracekill.routine.external import External

if TYPE_CHECKING:
    from pytest_gracekill.conformance.terms import Contract
    from pytest_gracekill.judgement import Judgement
    from pytest_gracekill.report import Report


def test_dead_already(contract: Contract) -> None:
    """Stopping a VM that is dead already succeeds, at once.

    Covers: already-dead-is-error, esrch-mishandled, late-death-not-cleaned.
    Source: libvirt c5d1dcbcd9, which failed to destroy what was dead.
    """
    if contract.adapted.starts_the_vm:
        report = contract.trial_after_death()
    else:
        vm = contract.vm()
        vm.kill()
        report = contract.trial(vm=vm)
    contract.check_ended(report)


def test_dies_at_the_very_moment(contract: Contract) -> None:
    """A VM that ends within a millisecond of the SIGTERM is dead, with nothing lost.

    Covers: already-dead-is-error, esrch-mishandled, poll-lies.
    Source: podman 067442b570, where a stop raced with the exit.
    """
    for _ in range(5):
        contract.check_saved(contract.trial(flush_time=0.0, blocks=1))


def test_zombie_of_our_own(contract: Contract) -> None:
    """A zombie is dead: a VM that nobody has reaped yet is noticed when it exits.

    Covers: zombie-alive.
    Source: OpenRC#252, which waited for a zombie.
    """
    contract.check_saved(contract.trial(flush_time=0.2, topology="child"))


def test_reaped_late(contract: Contract) -> None:
    """A VM whose parent reaps it late, as a busy init does, is noticed when it exits.

    Covers: zombie-alive, d-state.
    Source: libvirt be2ca04447, where kill(pid, 0) went on to succeed.
    """
    if contract.has_own_child:
        pytest.skip("the VM is the routine's own child: nobody else reaps it")
    report = contract.trial(flush_time=0.2, topology="zombie", reaper_delay=contract.survive)
    contract.check_saved(report)


def test_reaped_by_somebody_else(contract: Contract) -> None:
    """A VM whose exit status somebody else has taken is dead all the same, and reported so.

    Covers: waitpid-stolen, sigchld-ignored, poll-lies.
    Source: cpython#96863, which reads a status that was stolen as 0.
    """
    if contract.has_own_child:
        contract.needs_python("its child is out of our reach")
        contract.check_saved(contract.trial_within(status_taken, flush_time=0.3))
    else:
        contract.check_saved(contract.trial(flush_time=0.2, topology="daemon"))


def test_behind_a_wrapper(contract: Contract) -> None:
    """A VM behind a parent that forwards no signal, such as a shell, is ended all the same.

    Covers: wrong-pid.
    Source: kata-containers#13009, which signalled the jailer and never the VM.
    """
    contract.check_saved(contract.trial(flush_time=0.2, topology="wrapped"))


@pytest.mark.parametrize("how", ["by the kernel", "injected"])
def test_not_permitted(contract: Contract, how: str) -> None:
    """A VM that it may not signal (EPERM) is not reported as dead, and the locks are in order.

    Covers: eperm-is-dead, error-lost, lock-not-restored.
    Source: onctl#1082, which took EPERM for dead and removed the disk of a running VM.
    """
    if how == "injected":
        contract.needs_python("no call of it can be made to fail")
        report = contract.trial_within(refused, flush_time=0.2)
    else:
        report = _trial_without_rights(contract)
    assert not report.sigkill_sent
    names = {"outcome", "promptness", "deadlock", "locks"} & set(report.verdicts)
    report.check(*sorted(names))


def _trial_without_rights(contract: Contract) -> Report:
    if os.geteuid() != 0:
        pytest.skip("only root can run the VM as one user and the routine as another")
    contract.needs_running_vm("it would be the VM's parent, of the same user")
    if contract.has_own_child:
        pytest.skip("the VM has to be a child of the process that stops it, of the same user")
    routine = contract.adapted.routine
    if isinstance(routine, External):
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("there is no setpriv (of util-linux) to run the command as nobody")
        return contract.trial(command_without_rights(routine, setpriv), flush_time=0.2)
    within = 2 * contract.survive + 10
    return contract.trial(
        without_rights(contract.adapted, contract.folder(), within), contenders=0, flush_time=0.2
    )


def test_pid_that_is_used_again(contract: Contract) -> None:
    """When the VM has gone and its pid is another process's, that one gets no signal.

    Covers: pid-reuse, stale-pidfile, restarted-meanwhile.
    Source: proxmox 281fa1491f, which opened its pidfd too late.
    """
    contract.needs_running_vm("its child keeps its pid until it reaps it")
    if contract.has_own_child:
        pytest.skip("a child of its own keeps its pid until it is reaped")
    folder = contract.folder()
    knobs = Knobs.from_values({"topology": "reaped", "flush_time": 0.37, "reuse_pid": True})

    def work() -> Judgement:
        # what the fork has of our threads' locks may be held for good, the handlers are pytest's
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        vm = spawn(knobs, folder / "vm")
        try:
            contract.trial(vm=vm, contenders=1)
            return contract.reports[-1].portable()
        finally:
            vm.close()

    try:
        seen = perform(work, folder, within=3 * contract.survive + 20, prepare=enter_pid_namespace)
    except CannotError as error:
        pytest.skip(f"no pid namespace can be had here: {error}")
    if isinstance(seen, Failed):
        not_judged(f"the process in the namespace: {seen}")
    report = cast("Judgement", seen)
    contract.note(report)
    report.check("escalation")
