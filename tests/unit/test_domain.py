"""One VM of the model: what is told of it after its last reference, and of its clean-ups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_gracekill.routine.domain import Domain, ReferenceCountError
from pytest_gracekill.routine.incarnation import Incarnation
from pytest_gracekill.routine.model import Driver
from pytest_gracekill.routine.owned_lock import OwnedLock

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST, SECOND = Incarnation(id=1, pid=12, started=1.0), Incarnation(id=2, pid=12, started=2.0)


class Told:
    """Notes what the model tells of its domains."""

    def __init__(self) -> None:
        self.used: list[tuple[str, str]] = []
        self.ended: list[tuple[str, Incarnation | None]] = []

    def used_after_free(self, domain: str, what: str) -> None:
        self.used.append((domain, what))

    def torn_down(self, domain: str, incarnation: Incarnation | None) -> None:
        self.ended.append((domain, incarnation))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def domain(told: Told) -> Domain:
    made = Domain("web", notices=told)
    made.begin(FIRST)
    return made


USES: dict[str, Callable[[Domain], object]] = {
    "lock": lambda domain: domain.lock,
    "incarnation": lambda domain: domain.incarnation,
    "id": lambda domain: domain.id,
    "pid": lambda domain: domain.pid,
    "active": lambda domain: domain.active,
    "begin()": lambda domain: domain.begin(SECOND),
}


@pytest.mark.parametrize("what", USES)
def test_a_use_after_the_last_reference_works_and_is_told(
    domain: Domain, told: Told, what: str
) -> None:
    before = USES[what](domain)
    assert told.used == []
    domain.unref()
    assert told.used == []
    assert USES[what](domain) == before
    assert told.used == [("web", what)]


@pytest.mark.parametrize("what", ["ref()", "unref()"])
def test_a_count_after_the_last_reference_is_told_and_refused(
    domain: Domain, told: Told, what: str
) -> None:
    domain.unref()
    with pytest.raises(ReferenceCountError):
        domain.ref() if what == "ref()" else domain.unref()
    assert told.used == [("web", what)]
    assert domain.refs == 0


def test_with_a_reference_nothing_is_told(domain: Domain, told: Told) -> None:
    domain.ref()
    domain.unref()
    for use in USES.values():
        use(domain)
    assert (domain.name, domain.refs) == ("web", 1)
    assert told.used == []


def test_what_is_asked_of_a_freed_domain_for_a_report_is_no_use(domain: Domain, told: Told) -> None:
    domain.unref()
    assert repr(domain) == "<Domain 'web' id=1 pid=12 refs=0>"
    assert (domain.name, domain.refs, domain.being_destroyed) == ("web", 0, False)
    assert told.used == []


def test_a_clean_up_is_for_one_run_and_told(domain: Domain, told: Told) -> None:
    assert not domain.clean_up(SECOND)
    assert domain.incarnation == FIRST
    assert told.ended == []
    assert domain.clean_up(FIRST)
    assert not domain.active
    assert not domain.clean_up(FIRST)
    assert told.ended == [("web", FIRST)]


def test_tear_down_takes_whatever_is_there(domain: Domain, told: Told) -> None:
    domain.begin(SECOND)
    domain.tear_down()
    domain.tear_down()
    assert told.ended == [("web", SECOND), ("web", None)]
    assert told.used == []


def test_a_clean_up_of_a_freed_domain_is_a_use(domain: Domain, told: Told) -> None:
    domain.unref()
    domain.tear_down()
    # of each step of it: the first is what a report shows
    assert told.used[0] == ("web", "tear_down()")
    assert told.ended == [("web", FIRST)]


def test_signals_are_forgotten_with_the_run(domain: Domain) -> None:
    first = domain.sent
    domain.begin(SECOND)
    assert domain.sent is not first


def test_without_anybody_to_tell_it_works_all_the_same() -> None:
    domain = Domain("web", OwnedLock("mine"))
    domain.unref()
    assert not domain.active
    domain.tear_down()
    with pytest.raises(ReferenceCountError):
        domain.ref()


def test_a_driver_hands_its_notices_to_its_domains(told: Told) -> None:
    driver = Driver(notices=told)
    domain = driver.define("web")
    driver.undefine("web")
    assert told.used == []
    assert not domain.active
    assert told.used == [("web", "active")]
