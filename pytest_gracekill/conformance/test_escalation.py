"""What a kill routine owes to its caller: an end, and the truth about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_gracekill import Crash, KillFlags, Stop
from pytest_gracekill.conformance.cases import waits_full_grace

if TYPE_CHECKING:
    from pytest_gracekill.conformance.terms import Contract

#: Seconds for which a VM is still there after SIGKILL: many times as long as a look takes.
_SURVIVES = 0.5


@waits_full_grace
def test_flush_beyond_the_promise_forced(contract: Contract) -> None:
    """A VM that needs longer than promised is not killed before the promised time is over.

    Covers: escalation-missing, wrong-exit-class, no-verify-after-kill.
    Source: libvirt 8fd3823117, which mixed up forced and graceful.
    """
    contract.needs_force()
    contract.check_unsaved(contract.trial(flush_time=1.75 * contract.survive))


@waits_full_grace
def test_flush_beyond_the_promise_graceful(contract: Contract) -> None:
    """Asked to be graceful, it sends no SIGKILL, and reports that the VM has not ended.

    Covers: sigkill-despite-graceful, timeout-returns-success.
    Source: libvirt 93af79fba3, whose time-out returned success.
    """
    contract.needs_graceful()
    report = contract.trial(flush_time=1.75 * contract.survive, flags=KillFlags(0))
    contract.check_unsaved(report)


@waits_full_grace
def test_vm_that_never_ends(contract: Contract) -> None:
    """A flush that makes no progress ends by SIGKILL, or in a truthful failure, not in a hang.

    Covers: flush-blocked, unbounded-after-kill.
    Source: rabbitmq-server#15498, whose flush met a full disk.
    """
    contract.check_unsaved(contract.trial(flush_profile="never"))


@waits_full_grace
def test_vm_that_ignores_sigterm(contract: Contract) -> None:
    """A VM that ignores SIGTERM ends by SIGKILL, or in a truthful failure.

    Covers: sigterm-blocked, sigterm-no-exit, pid1-ignores, child-refuses.
    Source: libvirt f84aedad09, QEMU 0.14 under -no-shutdown.
    """
    contract.check_unsaved(contract.trial(on_term="ignore"))


@waits_full_grace
def test_vm_that_survives_sigkill(contract: Contract) -> None:
    """A VM that is still there for a while after SIGKILL is reported as dead only when it is gone.

    Covers: d-state, no-verify-after-kill.
    Source: moby#22802, a process in D state.
    """
    contract.needs_force()
    contract.check_unsaved(contract.trial(on_term="ignore", survives_kill=_SURVIVES))


@waits_full_grace
def test_vm_that_is_stopped(contract: Contract) -> None:
    """A VM that is stopped (SIGSTOP) in the middle of its flush ends by SIGKILL, or in a failure.

    Covers: stopped-child.
    Source: libvirt 6459af6a43, kill -STOP and a graceful destroy.
    """
    contract.check_unsaved(contract.trial(flush_time=0.2, on_term=Stop(at=8)))


@waits_full_grace
def test_helpers_of_a_killed_vm(contract: Contract) -> None:
    """Where the VM had to be killed, its helper processes are ended, too.

    Covers: leftover-children, pipe-held-open.
    Source: libvirt 7a232286b9, which left the persistent-reservation helper behind.
    """
    if contract.kind == "driver":
        pytest.skip("a driver routine leaves the helpers to its caller, as libvirt's does")
    contract.needs_force()
    report = contract.trial(on_term="ignore", helpers=2, helper={"session", "holds_stdout"})
    report.check(*(name for name in report.verdicts if name != "data"))


def test_sigterm_before_the_handlers(contract: Contract) -> None:
    """A VM that dies at once, since it had no signal handlers yet, is reported as dead.

    Covers: early-sigterm, sigterm-half-started.
    Source: QEMU, which writes its pid file before it has handlers.
    """
    contract.check_ended(contract.trial(ready_after=2 * contract.survive))


@pytest.mark.parametrize("ending", [{"exit": 3}, {"signal": 11}], ids=["exits", "segfault"])
def test_crash_in_the_flush(contract: Contract, ending: dict[str, int]) -> None:
    """A VM that crashes in the middle of its flush is noticed at once and reported as dead.

    Covers: torn-write, wrong-exit-class, sleeps-full-grace.
    Source: redis#1604, a dump of no bytes after a crash.
    """
    report = contract.trial(flush_time=0.2, on_term=Crash(at=32, **ending))
    contract.check_ended(report)


def test_nowait_does_not_wait(contract: Contract) -> None:
    """NOWAIT sends one SIGTERM, returns long before the VM ends, and leaves the locks alone.

    Covers: lock-not-restored, grace-restarts.
    Source: libvirt's VIR_QEMU_PROCESS_KILL_NOWAIT.
    """
    contract.needs_flags()
    report = contract.trial(flush_time=0.3 * contract.survive, flags=KillFlags.NOWAIT)
    report.check()
    assert report.elapsed < 0.3 * contract.survive, "NOWAIT waited for the whole flush"
