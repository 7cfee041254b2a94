"""The seed's kill routine: libvirt's qemuProcessKill of February 2012, with what it left open.

SIGTERM, wait, SIGKILL, wait. The locks are let go once, before the first sleep, and held again at
the end, whatever happened. Everything goes to the incarnation that ran at the call, through a
pidfd; what becomes of the domain meanwhile is none of this call's business.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pytest_gracekill import clock
from pytest_gracekill.errors import UsageError
from pytest_gracekill.routine.flags import KillFlags, parse_flags
from pytest_gracekill.routine.interrupt import Interrupts
from pytest_gracekill.routine.policy import DEFAULT_POLICY, KillPolicy
from pytest_gracekill.routine.pursuit import Pursuit, wait_for_end
from pytest_gracekill.routine.result import KillResult
from pytest_gracekill.routine.target import SIGKILL, SIGTERM, open_target
from pytest_gracekill.routine.tenure import Tenure

if TYPE_CHECKING:
    from pytest_gracekill.routine.model import Domain, Driver
    from pytest_gracekill.routine.pursuit import Sent


def process_kill(
    driver: Driver | None,
    domain: Domain,
    flags: KillFlags | int = 0,
    *,
    policy: KillPolicy = DEFAULT_POLICY,
) -> KillResult:
    """Kill the domain's process; the truth about it, timeouts and errnos included, is returned.

    Call with ``driver.lock`` and ``domain.lock`` held, in that order, and with a reference of the
    caller's own: it may be the last one when this returns. The same locks are held at the return.
    ``driver=None``: there is no driver lock. ``NOWAIT`` needs the domain's lock only.
    """
    started = clock.monotonic()
    wanted = parse_flags(flags)
    if not isinstance(policy, KillPolicy):
        raise UsageError(f"policy={policy!r} cannot be used: it has to be a KillPolicy")
    incarnation = domain.incarnation
    if incarnation is None:
        return KillResult(ok=True, dead=True, elapsed=clock.monotonic() - started)
    tenure = Tenure(driver.lock if driver is not None else None, domain.lock, policy.drop)
    if not wanted & KillFlags.NOWAIT:
        tenure.check_held()
    # this incarnation's list, also when the domain is started again meanwhile
    sent = domain.sent
    with Interrupts() as interrupts:
        try:
            target = open_target(incarnation)
        except OSError as error:
            return _result(started, sent, dead=False, failure=error.errno)
        try:
            pursuit = Pursuit(target, sent, interrupts)
            dead = _pursue(pursuit, tenure, domain, wanted, policy)
            return _result(started, sent, dead=dead, failure=pursuit.errno)
        finally:
            target.close()


def _pursue(
    pursuit: Pursuit, tenure: Tenure, domain: Domain, wanted: KillFlags, policy: KillPolicy
) -> bool | None:
    """Signal and wait; whether it is dead, ``None`` when that was not waited for.

    False also when a signal could not be sent: the pursuit has the errno.
    """
    # the seed's kill(2) reaches a zombie and does not know it for one
    if policy.wait != "seed" and pursuit.ended():
        return True
    if not _send_first(pursuit, wanted):
        return False
    if wanted & KillFlags.NOWAIT:
        return None
    domain.ref()
    try:
        force = bool(wanted & KillFlags.FORCE)
        return tenure.unlocked(lambda: wait_for_end(pursuit, policy, force=force))
    finally:
        domain.unref()


def _send_first(pursuit: Pursuit, wanted: KillFlags) -> bool:
    if wanted == KillFlags.FORCE | KillFlags.NOWAIT:
        return pursuit.send(SIGKILL)
    # asked already, by an earlier or a concurrent call: a second SIGTERM may break off the flush
    return pursuit.asked or pursuit.send(SIGTERM)


def _result(
    started: float, sent: list[Sent], *, dead: bool | None, failure: int | None
) -> KillResult:
    if failure == errno.ESRCH:  # ended and reaped
        dead, failure = True, None
    ended_by = next((signal.signum for signal in reversed(sent) if signal.alive), None)
    return KillResult(
        ok=dead is not False,
        dead=dead,
        signal=ended_by if dead else None,
        errno=failure,
        elapsed=clock.monotonic() - started,
        sent=tuple(signal.signum for signal in sent),
    )
