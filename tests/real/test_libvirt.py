"""libvirt itself, judged: its own daemon, a domain of it, and the call that destroys the domain.

How long libvirt gives a QEMU, 10 s before SIGKILL, cannot be shortened: one case waits for it with
the fake as the emulator, and one with a real QEMU. libvirt counts its looks, not the time, so that
on a busy machine it can be half as long again: the flush has to take far longer. What lies closer
together is measured by ``python tests/real/libvirt_figures.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from libvirt_daemon import Libvirtd
from libvirt_needed import WHY_NOT, need_libvirt

if WHY_NOT is None:
    from libvirt import VIR_DOMAIN_DESTROY_GRACEFUL
    from libvirt_domain import Clients, destroy_fake, destroy_real, other_clients, start_real

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gracekill import Report
    from pytest_gracekill.fixtures import Judge, StartReal

#: libvirt looks for the end of a VM every 0.2 s, and a busy machine adds its own: none of that is
#: what is asked here.
pytestmark = pytest.mark.gracekill(slack=5.0, stall_limit=5.0)

#: What has to stand still behind a `destroy` that waits, and what may not.
BEHIND_IT = ("list_all_domains", "look_up_same", "info_of_same")
APART = ("look_up_other", "info_of_other")


@pytest.fixture(scope="module")
def daemon(request: pytest.FixtureRequest) -> Iterator[Libvirtd]:
    """One for all tests: what it has asked of a QEMU's binary it asks no more."""
    need_libvirt(request.config)
    with Libvirtd() as running:
        yield running


@pytest.fixture
def clients(daemon: Libvirtd) -> Iterator[Clients]:
    """What the daemon's other clients do meanwhile."""
    with other_clients(daemon) as working:
        yield working


def stood(clients: Clients, seconds: float) -> None:
    """They stood behind the call, but for those that have nothing to do with the domain."""
    for name in BEHIND_IT:
        assert clients.longest[name] > 0.8 * seconds, clients.longest
    for name in APART:
        assert clients.longest[name] < 0.5 * seconds, clients.longest


def lost_blocks_behind_destroy(report: Report) -> None:
    """SIGKILL came after 10 s, and what had not been flushed by then is lost, to the end."""
    words = {verdict.word for verdict in report.verdicts.values() if verdict.status != "ok"}
    assert words == {"DATA LOST", "KILLED EARLY", "STALLED"}
    assert report.disk.lost
    assert report.disk.lost == list(range(report.disk.lost[0], 64))
    assert report.result == 0
    assert "list_all_domains took" in report.verdicts["progress"].evidence


def test_short_flush(daemon: Libvirtd, clients: Clients, gracekill: Judge) -> None:
    gracekill(destroy_fake(daemon), flush_time=0.3, force=True, contend=clients.work).check()


def test_short_flush_graceful(daemon: Libvirtd, clients: Clients, gracekill: Judge) -> None:
    gracekill(
        destroy_fake(daemon, VIR_DOMAIN_DESTROY_GRACEFUL),
        flush_time=0.3,
        force=False,
        contend=clients.work,
    ).check()


def test_destroy_loses_data(daemon: Libvirtd, clients: Clients, gracekill: Judge) -> None:
    report = gracekill(destroy_fake(daemon), flush_time=60.0, force=True, contend=clients.work)
    lost_blocks_behind_destroy(report)
    stood(clients, 10.0)


def test_real_graceful(
    daemon: Libvirtd, clients: Clients, real_qemu: StartReal, gracekill: Judge
) -> None:
    """A flush for which `destroy` without the flag has no time."""
    vm = real_qemu(start=start_real(daemon), flush_time=12.0)
    routine = destroy_real(daemon, VIR_DOMAIN_DESTROY_GRACEFUL)
    report = gracekill(routine, vm=vm, force=False, contend=clients.work)
    assert report.headline() == "gracekill: STALLED"
    stood(clients, 12.0)


def test_real_short_flush(
    daemon: Libvirtd, clients: Clients, real_qemu: StartReal, gracekill: Judge
) -> None:
    vm = real_qemu(start=start_real(daemon), flush_time=0.3)
    gracekill(destroy_real(daemon), vm=vm, force=True, contend=clients.work).check()


def test_real_destroy_loses_data(
    daemon: Libvirtd, clients: Clients, real_qemu: StartReal, gracekill: Judge
) -> None:
    vm = real_qemu(start=start_real(daemon), flush_time=60.0)
    report = gracekill(destroy_real(daemon), vm=vm, force=True, contend=clients.work)
    lost_blocks_behind_destroy(report)
    stood(clients, 10.0)
