"""Who calls the seed's routine: what each cleans up, and what it leaves as it was."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING, NoReturn

import pytest

from pytest_gracekill.routine import callers
from pytest_gracekill.routine.callers import destroy, monitor_eof, shutdown_or_reboot, stop
from pytest_gracekill.routine.model import Driver
from pytest_gracekill.routine.policy import KillPolicy
from pytest_gracekill.routine.process_kill import process_kill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.routine.domain import Domain
    from pytest_gracekill.routine.result import KillResult

DEADLINE = 30.0
SHORT = KillPolicy(grace=0.05, reap=0.05)
#: A process that outlives any grace of these tests.
IGNORES = ["sh", "-c", "trap '' TERM; echo up; exec sleep 60"]


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


@pytest.fixture
def stubborn() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(IGNORES, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield process
        process.kill()


@pytest.fixture
def driver() -> Driver:
    return Driver()


def locked(driver: Driver, domain: Domain, call: Callable[[], object]) -> object:
    """Call as the routine is called; the same locks and references are there at the return."""
    refs = domain.ref()
    with driver.lock, domain.lock:
        result = call()
        assert driver.lock.held()
        assert domain.lock.held()
    assert domain.refs == refs
    domain.unref()
    return result


def seen_by_the_kill(
    monkeypatch: pytest.MonkeyPatch, look: Callable[[Driver, Domain], object]
) -> None:
    """Have somebody look while the seed's routine is called, after it has done its work."""

    def kill(driver: Driver, domain: Domain, *args: object, **kwargs: object) -> KillResult:
        result = process_kill(driver, domain, *args, **kwargs)  # type: ignore[arg-type]
        look(driver, domain)
        return result

    monkeypatch.setattr(callers, "process_kill", kill)


def test_destroy_guards_references_and_cleans_up(
    driver: Driver, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = driver.define("web", child)
    during: list[tuple[bool, int, bool]] = []
    seen_by_the_kill(
        monkeypatch,
        lambda _driver, domain: during.append((domain.being_destroyed, domain.refs, domain.active)),
    )
    result = locked(driver, domain, lambda: destroy(driver, domain))
    assert str(result).startswith("KillResult(dead, by SIGTERM")
    assert during == [(True, 3, True)]
    assert (domain.active, domain.being_destroyed) == (False, False)


def test_a_graceful_destroy_that_fails_cleans_nothing_up(
    driver: Driver, stubborn: subprocess.Popen[bytes]
) -> None:
    domain = driver.define("web", stubborn)
    result = locked(driver, domain, lambda: destroy(driver, domain, 0, policy=SHORT))
    assert str(result).startswith("KillResult(alive after SIGTERM"), result
    assert domain.active
    # or the end-of-file handler would leave the late death to nobody
    assert not domain.being_destroyed
    assert stubborn.poll() is None


def test_destroy_of_what_is_not_active(driver: Driver) -> None:
    domain = driver.define("web")
    result = locked(driver, domain, lambda: destroy(driver, domain))
    assert str(result) == "KillResult(was not running)"
    assert not domain.being_destroyed


def test_destroy_restores_everything_when_the_kill_raises(
    driver: Driver, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_args: object, **_kwargs: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(callers, "process_kill", kill)
    domain = driver.define("web", child)

    def call() -> None:
        with pytest.raises(KeyboardInterrupt):
            destroy(driver, domain)

    locked(driver, domain, call)
    assert (domain.active, domain.being_destroyed) == (True, False)


def test_destroy_leaves_what_was_started_meanwhile(
    driver: Driver, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = driver.define("web", child)
    seen_by_the_kill(monkeypatch, lambda driver, _domain: driver.define("web", os.getppid()))
    locked(driver, domain, lambda: destroy(driver, domain))
    assert (domain.id, domain.pid) == (2, os.getppid())


def test_destroy_keeps_a_domain_that_is_undefined_meanwhile(
    driver: Driver, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = driver.define("web", child)
    seen_by_the_kill(monkeypatch, lambda driver, _domain: driver.undefine("web"))
    with driver.lock, domain.lock:  # no reference but the list's
        assert destroy(driver, domain).dead
    assert (domain.refs, domain.active) == (0, False)


def test_stop_ends_it_by_force_and_says_nothing(
    driver: Driver, stubborn: subprocess.Popen[bytes]
) -> None:
    domain = driver.define("web", stubborn)
    assert locked(driver, domain, lambda: stop(driver, domain, policy=SHORT)) is None
    assert stubborn.wait(DEADLINE) == -signal.SIGKILL
    assert not domain.active


@pytest.mark.parametrize(("reboot", "signum"), [(False, signal.SIGTERM), (True, signal.SIGKILL)])
def test_shutdown_or_reboot_does_not_wait(
    driver: Driver,
    child: subprocess.Popen[bytes],
    reboot: bool,  # noqa: FBT001 - a parameter of the test
    signum: int,
) -> None:
    domain = driver.define("web", child)
    with domain.lock:
        result = shutdown_or_reboot(driver, domain, reboot=reboot)
        assert domain.lock.held()
    assert (result.dead, result.sent) == (None, (signum,))
    assert child.wait(DEADLINE) == -signum
    # the end-of-file handler cleans up
    assert domain.active


def test_the_end_of_file_cleans_up_once(driver: Driver, child: subprocess.Popen[bytes]) -> None:
    domain = driver.define("web", child)
    run = domain.incarnation
    assert run is not None
    assert monitor_eof(driver, "web", run)
    assert not domain.active
    assert not monitor_eof(driver, "web", run)
    assert domain.refs == 1
    assert not driver.lock.locked()
    assert not domain.lock.locked()


def test_the_end_of_file_keeps_off_what_is_none_of_its_business(
    driver: Driver, child: subprocess.Popen[bytes]
) -> None:
    domain = driver.define("web", child)
    run = domain.incarnation
    assert run is not None
    domain.being_destroyed = True
    assert not monitor_eof(driver, "web", run)
    assert domain.active
    domain.being_destroyed = False
    driver.define("web", child)  # another run
    assert not monitor_eof(driver, "web", run)
    assert domain.id == 2
    driver.undefine("web")
    assert not monitor_eof(driver, "web", run)
