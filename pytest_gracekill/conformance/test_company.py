"""What a kill routine owes to others: callers, other VMs, other threads, and who comes after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_gracekill.conformance.fleet import Fleet, Outcome
from pytest_gracekill.conformance.terms import not_judged
from pytest_gracekill.routine.adapt import MANAGERS
from pytest_gracekill.routine.flags import KillFlags
from pytest_gracekill.routine.policy import KillPolicy

if TYPE_CHECKING:
    from pytest_gracekill.conformance.terms import Contract

#: How many VMs are stopped at once.
MANY = 10


def test_helpers_are_gone(contract: Contract) -> None:
    """After a clean end no helper process of the VM is left.

    Covers: leftover-children, cleanup-order.
    Source: libvirt ca43a5198a, which left a child of virtiofsd behind.
    """
    contract.check_saved(contract.trial(flush_time=0.1, helpers=2, helper={"session"}))


def test_disk_is_free(contract: Contract) -> None:
    """When it returns, the disk's lock is free, so that the VM can be started again.

    Covers: resource-outlives-exit, teardown-before-exit.
    Source: podman 909ab59419, whose exit was reported before the files were closed.
    """
    report = contract.trial(flush_time=0.1, helpers=1, helper={"holds_lock"})
    report.check("data", "outcome")
    contract.check_saved(report)


def test_two_callers(contract: Contract) -> None:
    """Two callers who stop the same VM at once both get a true answer, and one VM that is saved.

    Covers: double-stop, stopper-vs-stopper-signal, poll-lies.
    Source: libvirt ff68d6eeb5, where two stops freed one monitor twice.
    """
    _can_be_called_twice(contract)
    contract.check_saved(contract.trial(flush_time=0.3 * contract.survive, callers=2))


def test_ten_vms(contract: Contract) -> None:
    """Ten VMs that are stopped at once take little longer than one.

    Covers: sequential-sum, lock-held-over-wait.
    Source: truenas#18989, 90 s for each VM at the shutdown of the host.
    """
    _can_be_called_twice(contract)
    flush_time = 0.3 * contract.survive

    def stopped(number: int) -> Outcome:
        folders = [contract.folder() for _ in range(number)]
        policy = contract.policy or KillPolicy()
        with Fleet(
            contract.adapted, folders, flags=KillFlags.FORCE, policy=policy, flush_time=flush_time
        ) as fleet:
            outcome = fleet.stop(MANY * contract.survive)
        if any("main thread" in (fate.error or "") for fate in outcome.fates):
            pytest.skip("the routine needs the main thread, so that only one can be stopped a time")
        if outcome.too_busy is not None:
            not_judged(f"{outcome}: {outcome.too_busy}")
        for fate in outcome.fates:
            assert not fate.alive, f"gracekill: LEAKED ({outcome}: {fate})"
            assert not fate.lost, f"gracekill: DATA LOST ({outcome}: {fate})"
            assert fate.error is None, f"gracekill: RAISED ({outcome}: {fate})"
        return outcome

    alone, together = stopped(1), stopped(MANY)
    told = f"{together}, one in {alone.elapsed:.3f} s; {together.at_once} at the same time"
    contract.remarks.append(told)
    # where all were on their way out at the same time, whatever took longer was the machine
    limit = 2 * alone.elapsed + contract.slack
    assert together.at_once == MANY or together.elapsed <= limit, (
        f"gracekill: SLOW ({told}; {limit:.3f} s are allowed)"
    )


@pytest.mark.parametrize("kind", ["other", "same", "list", "define"])
def test_other_work_goes_on(contract: Contract, kind: str) -> None:
    """While one VM takes its time to die, look-ups, listing and defining go on.

    Covers: lock-held-over-wait, lock-order-retake, lock-churn-starvation.
    Source: libvirt 595e26c086, which dropped the driver lock over the wait.
    """
    if contract.kind != "driver":
        pytest.skip("the routine takes no driver that others could wait for")
    report = contract.trial(flush_time=0.3 * contract.survive, contenders=(kind,) * 4)
    contract.check_saved(report)


def _can_be_called_twice(contract: Contract) -> None:
    if contract.kind == "child" and contract.adapted.form not in MANAGERS:
        pytest.skip("the routine starts its VM in the same call")
