"""Who calls the seed's routine: destroy, shutdown or reboot, stop, and the monitor's handler.

They are as in libvirt after the patches, with what later years have taught: a guard flag that is
set before the first unlock, a look at the run when the locks are back, one clean-up. Each is called
without locks, and takes driver before domain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.routine.flags import KillFlags, parse_flags
from pytest_gracekill.routine.policy import DEFAULT_POLICY, KillPolicy
from pytest_gracekill.routine.process_kill import process_kill
from pytest_gracekill.routine.result import KillResult

if TYPE_CHECKING:
    from pytest_gracekill.routine.domain import Domain
    from pytest_gracekill.routine.incarnation import Incarnation
    from pytest_gracekill.routine.model import Driver


def destroy(
    driver: Driver,
    domain: Domain,
    flags: KillFlags | int = KillFlags.FORCE,
    *,
    policy: KillPolicy = DEFAULT_POLICY,
) -> KillResult:
    """Stop it and clean up; called with both locks held, and with them held at the return.

    Graceful it may fail: then nothing is cleaned up. Of two callers one cleans up. libvirt's
    ``qemuDomainDestroyFlags`` and ``qemuProcessBeginStopJob``.
    """
    wanted = parse_flags(flags)
    victim = domain.incarnation
    if victim is None:
        return KillResult(ok=True, dead=True)
    # the routine's own reference is gone when it returns, and we go on with the domain
    domain.ref()
    # before the first unlock: from here on the end-of-file handler leaves it to us
    domain.being_destroyed = True
    try:
        result = process_kill(driver, domain, wanted, policy=policy)
        if result.dead:
            # the locks were let go meanwhile: somebody else may have cleaned up, or started it
            domain.clean_up(victim)
        return result
    finally:
        domain.being_destroyed = False
        domain.unref()


def stop(driver: Driver, domain: Domain, *, policy: KillPolicy = DEFAULT_POLICY) -> None:
    """Stop it for good and clean up, whatever the kill says; as `destroy`, but no result.

    libvirt's ``qemuProcessStop`` when something else has failed.
    """
    destroy(driver, domain, KillFlags.FORCE, policy=policy)


def shutdown_or_reboot(
    driver: Driver, domain: Domain, *, reboot: bool, policy: KillPolicy = DEFAULT_POLICY
) -> KillResult:
    """After the guest has shut down: end the process without a wait, or start it again.

    A reboot that cannot be had (here always: there is no guest) ends it by force. Only the
    domain's lock is needed. libvirt's ``qemuProcessShutdownOrReboot``.
    """
    flags = KillFlags.NOWAIT | (KillFlags.FORCE if reboot else 0)
    return process_kill(driver, domain, flags, policy=policy)


def monitor_eof(driver: Driver, name: str, run: Incarnation) -> bool:
    """The monitor's end of file: clean up after a VM that has ended by itself.

    Nothing to do where somebody destroys it, or where another run has begun since. Whether it
    cleaned up. Called without locks. libvirt's ``qemuProcessHandleMonitorEOF``.
    """
    with driver.look_up(name) as domain:
        if domain is None or domain.being_destroyed:
            return False
        return domain.clean_up(run)
