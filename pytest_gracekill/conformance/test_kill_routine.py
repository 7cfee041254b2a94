"""What a kill routine owes to its VM, to its caller, and to the threads beside it: case by case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gracekill import Crash, KillFlags, KillPolicy, Stop, UsageError, process_kill
from pytest_gracekill.fixtures import SETTLED
from pytest_gracekill.routine.adapt import adapt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_gracekill.child.handle import FakeQemu
    from pytest_gracekill.fixtures import Judge, StartFake
    from pytest_gracekill.report import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What the routine under test promises, and how it is asked; ``survive`` in seconds.

    ``kind`` is the name of its first parameter; ``flagged``: it takes ``flags``.
    """

    survive: float
    kind: str
    flagged: bool
    policy: KillPolicy | None

    def __str__(self) -> str:
        return f"{self.kind} routine, survives {self.survive} s"

    def trial(
        self,
        gracekill: Judge,
        *,
        flags: KillFlags = KillFlags.FORCE,
        contenders: int | Sequence[str] = 8,
        vm: FakeQemu | None = None,
        **knobs: Any,
    ) -> Report:
        """One trial of this routine, asked for in the way that it can be asked."""
        return gracekill(
            survive=self.survive,
            budget=4 * self.survive + 20,
            policy=self.policy,
            flags=flags if self.flagged else 0,
            contenders=contenders,
            vm=vm,
            **knobs,
        )


@pytest.fixture
def contract(request: pytest.FixtureRequest, kill_routine: Callable[..., object]) -> Contract:
    """What the routine promises: ``--gracekill-survive``, or the built-in one's grace."""
    declared = request.config.stash[SETTLED]["survive"].value
    built_in = kill_routine is process_kill
    if declared is None and not built_in:
        raise UsageError(
            "the suite must know what the routine promises to survive:"
            " --gracekill-survive=SECONDS, the flush time in seconds",
            source="the conformance suite",
        )
    survive = float(str(declared)) if declared is not None else KillPolicy().grace
    policy = None
    if built_in:
        policy = KillPolicy(grace=survive, reap=max(survive / 2, 1.0))
    adapted = adapt(kill_routine, "fixture kill_routine")
    return Contract(
        survive=survive, kind=adapted.kind, flagged=adapted.takes("flags"), policy=policy
    )


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_flush_within_the_promise(gracekill: Judge, contract: Contract, share: float) -> None:
    """A VM that flushes within the promised time loses nothing and gets no SIGKILL.

    Covers grace-too-short, kill-on-shutdown-event, slow-wake; libvirt f367cd1388.
    """
    contract.trial(gracekill, flush_time=share * contract.survive).check()


def test_flush_of_a_writing_guest(gracekill: Judge, contract: Contract) -> None:
    """A guest that still writes when the SIGTERM comes keeps every acknowledged write.

    Covers grace-too-short, torn-write; qemu-iotests 039.
    """
    contract.trial(gracekill, flush_time=0.1 * contract.survive, guest="writing", torn=True).check()


def test_flush_beyond_the_promise_forced(gracekill: Judge, contract: Contract) -> None:
    """A VM that needs longer than promised is killed, not before the promised time is over.

    Covers escalation-missing, wrong-exit-class; libvirt 8fd3823117.
    """
    report = contract.trial(gracekill, flush_time=4 * contract.survive + 10)
    _check_forced(report, contract)


def test_flush_beyond_the_promise_graceful(gracekill: Judge, contract: Contract) -> None:
    """Without FORCE such a VM gets no SIGKILL, and the routine reports that it did not end.

    Covers sigkill-despite-graceful, timeout-returns-success; libvirt 93af79fba3.
    """
    _needs_flags(contract)
    report = contract.trial(gracekill, flush_time=4 * contract.survive + 10, flags=KillFlags(0))
    report.check("escalation", "outcome", "promptness")
    _check_locks(report)


def test_vm_that_never_ends(gracekill: Judge, contract: Contract) -> None:
    """A flush that makes no progress ends by SIGKILL.

    Covers flush-blocked, unbounded-after-kill; rabbitmq-server#15498.
    """
    _check_forced(contract.trial(gracekill, flush_profile="never"), contract)


def test_vm_that_ignores_sigterm(gracekill: Judge, contract: Contract) -> None:
    """A VM that ignores SIGTERM ends by SIGKILL.

    Covers sigterm-blocked, sigterm-no-exit; libvirt f84aedad09.
    """
    _check_forced(contract.trial(gracekill, on_term="ignore"), contract)


def test_vm_that_stops_itself(gracekill: Judge, contract: Contract) -> None:
    """A VM that is stopped (SIGSTOP) in the middle of its flush ends by SIGKILL.

    Covers stopped-child; libvirt 6459af6a43.
    """
    report = contract.trial(gracekill, flush_time=0.2, on_term=Stop(at=8))
    _check_forced(report, contract)


def test_sigterm_before_the_handlers(gracekill: Judge, contract: Contract) -> None:
    """A VM that dies at once, since it had no signal handlers yet, is reported as dead.

    Covers early-sigterm; QEMU writes its pid file before it has handlers.
    """
    report = contract.trial(gracekill, ready_after=2 * contract.survive)
    report.check("escalation", "outcome", "promptness")
    _check_locks(report)


@pytest.mark.parametrize("ending", [{"exit": 3}, {"signal": 11}], ids=["exits", "segfault"])
def test_crash_in_the_flush(gracekill: Judge, contract: Contract, ending: dict[str, int]) -> None:
    """A VM that crashes in the middle of its flush is noticed at once and reported as dead.

    Covers torn-write, wrong-exit-class, sleeps-full-grace.
    """
    report = contract.trial(gracekill, flush_time=0.2, on_term=Crash(at=32, **ending))
    report.check("escalation", "outcome", "promptness")
    _check_locks(report)


def test_dead_already(gracekill: Judge, fake_qemu: StartFake, contract: Contract) -> None:
    """Stopping a VM that is dead already succeeds, at once.

    Covers already-dead-is-error, esrch-mishandled; libvirt c5d1dcbcd9.
    """
    topology = "child" if contract.kind in ("popen", "process") else "reaped"
    fake = fake_qemu(topology=topology)
    fake.kill()
    report = contract.trial(gracekill, vm=fake)
    report.check("escalation", "outcome", "promptness")
    _check_locks(report)


def test_reaped_late(gracekill: Judge, contract: Contract) -> None:
    """A zombie is dead: a VM whose parent reaps it late is noticed when it exits.

    Covers zombie-alive; libvirt be2ca04447, OpenRC#252.
    """
    if contract.kind in ("popen", "process"):
        pytest.skip(f"a {contract.kind} routine reaps its VM itself")
    contract.trial(
        gracekill, flush_time=0.2, topology="zombie", reaper_delay=contract.survive
    ).check()


def test_second_sigterm_hurts(gracekill: Judge, contract: Contract) -> None:
    """A VM that takes a second SIGTERM as "stop flushing" gets only one.

    Covers second-sigterm-aborts; cockroach#50539.
    """
    contract.trial(gracekill, flush_time=0.3 * contract.survive, on_second_term="abort").check()


def test_exit_long_after_the_flush(gracekill: Judge, contract: Contract) -> None:
    """The exit is waited for, not the end of the flush or of the disk lock.

    Covers teardown-before-exit, resource-outlives-exit; LXD 05ec8903b7.
    """
    contract.trial(gracekill, flush_time=0.1, linger=0.2 * contract.survive).check()


def test_helpers_are_gone(gracekill: Judge, contract: Contract) -> None:
    """After a clean end neither a helper process nor the disk lock is left.

    Covers leftover-children; libvirt 7a232286b9.
    """
    contract.trial(gracekill, flush_time=0.1, helpers=2).check()


@pytest.mark.parametrize("kind", ["other", "same", "list", "define"])
def test_other_work_goes_on(gracekill: Judge, contract: Contract, kind: str) -> None:
    """While one VM takes its time to die, look-ups, listing and defining go on.

    Covers lock-held-over-wait, lock-order-retake; libvirt 595e26c086.
    """
    if contract.kind != "driver":
        pytest.skip(f"a {contract.kind} routine has no driver that others could wait for")
    contract.trial(gracekill, flush_time=0.3 * contract.survive, contenders=(kind,) * 4).check()


def test_nowait_does_not_wait(gracekill: Judge, contract: Contract) -> None:
    """NOWAIT sends one SIGTERM, returns at once, and leaves the locks alone.

    Covers wait-cancelled-is-timeout, lock-not-restored.
    """
    _needs_flags(contract)
    report = contract.trial(gracekill, flush_time=0.3 * contract.survive, flags=KillFlags.NOWAIT)
    report.check("data", "escalation", "outcome", "promptness")
    _check_locks(report)
    assert report.elapsed < 0.3 * contract.survive, "NOWAIT waited for the whole flush"


def _check_forced(report: Report, contract: Contract) -> None:
    """The VM could not be saved: it was killed, in time, truthfully, the locks in order."""
    report.check("escalation", "outcome", "promptness")
    _check_locks(report)
    if contract.flagged:
        assert report.sigkill_sent, "FORCE promises SIGKILL, and the VM got none"


def _check_locks(report: Report) -> None:
    judged = [name for name in ("deadlock", "locks", "progress") if name in report.verdicts]
    if judged:  # without a name every verdict would be checked
        report.check(*judged)


def _needs_flags(contract: Contract) -> None:
    if not contract.flagged:
        pytest.skip("the routine takes no flags")


__all__ = [  # noqa: PLE0604 - strings they are, and a list by hand would miss the next case
    "contract",
    *sorted(name for name in dir() if name.startswith("test_")),
]
