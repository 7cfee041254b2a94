"""What a kill routine owes in every order of events, explored in virtual time on a simulated VM."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_gracekill.conformance.terms import Contract


def test_every_order_ends(contract: Contract) -> None:
    """In every order of its steps and of look-ups beside it, the stop ends: nobody is stuck.

    Covers: lock-order-retake, lost-wakeup, join-under-lock.
    Source: libvirt 4e5f0dd2d3, which took the driver's lock while it held a domain's.
    """
    contract.explore("same", "other")


def test_every_order_beside_the_handler(contract: Contract) -> None:
    """Whoever sees the VM's end first, the routine or the end-of-file handler: one cleans up, once.

    Covers: eof-vs-destroy, guard-window, double-stop.
    Source: libvirt 81621f3e6e, whose flag came after the locks had been let go.
    """
    contract.needs_driver()
    contract.explore("eof")


def test_every_order_beside_an_undefine(contract: Contract) -> None:
    """A domain that is undefined at any moment of the stop is not used after it was freed.

    Covers: unlock-without-ref, removed-while-stopping.
    Source: libvirt 540c339a25, which had no reference while its locks were let go.
    """
    contract.needs_driver()
    contract.explore("undefine")


def test_every_order_beside_a_restart(contract: Contract) -> None:
    """A VM that is started under the same name at any moment is neither stopped nor cleaned up.

    Covers: no-recheck, restarted-meanwhile, start-vs-stop.
    Source: nova 27330ac85c, which stopped the domain that had been started meanwhile.
    """
    contract.needs_driver()
    contract.explore("restart")
