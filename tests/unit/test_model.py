"""The model: locks that know their owner, references, definitions, look-ups, destroy."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill.errors import UsageError
from pytest_gracekill.routine import callers
from pytest_gracekill.routine.flags import KillFlags
from pytest_gracekill.routine.incarnation import Incarnation, start_time
from pytest_gracekill.routine.model import (
    Domain,
    Driver,
    Lookup,
    ReferenceCountError,
    UnknownDomainError,
)
from pytest_gracekill.routine.owned_lock import OwnedLock
from pytest_gracekill.routine.policy import KillPolicy
from pytest_gracekill.routine.process_kill import process_kill
from pytest_gracekill.witness.locks import LockTracer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from pytest_gracekill.routine.result import KillResult

    T = TypeVar("T")

DEADLINE = 30.0
LOOKUPS: tuple[Lookup, ...] = ("coupled", "referenced")


def in_thread(function: Callable[[], T]) -> T:
    """Call it in another thread; an exception comes back, a hang is cut off."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(function).result(DEADLINE)
    finally:
        pool.shutdown(wait=False)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def stop(child: subprocess.Popen[bytes]) -> None:
    """Stop it, so that it does not see SIGTERM; at the return it has stopped."""
    child.send_signal(signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])


def test_a_lock_knows_its_owner() -> None:
    lock = OwnedLock("driver")
    assert not lock.held()
    assert not lock.locked()
    with lock:
        assert lock.held()
        assert lock.locked()
        assert not in_thread(lock.held)
        assert in_thread(lock.locked)
        assert "driver" in repr(lock)
    assert not lock.held()
    assert not lock.locked()


def test_a_lock_is_taken_once() -> None:
    lock = OwnedLock("driver")
    with lock:
        assert not lock.acquire(blocking=False)
        assert not lock.acquire(timeout=0.001)
        with pytest.raises(RuntimeError, match=r"'driver' is already held by this thread"):
            lock.acquire()
        assert not in_thread(lambda: lock.acquire(blocking=False))
        assert not in_thread(lambda: lock.acquire(timeout=0.001))
    assert not lock.held()


def test_only_the_owner_releases() -> None:
    lock = OwnedLock()
    with pytest.raises(RuntimeError):
        lock.release()
    with lock:
        with pytest.raises(RuntimeError):
            in_thread(lock.release)
        assert lock.held()


def test_references_are_counted() -> None:
    domain = Domain("web")
    assert domain.refs == 1
    assert domain.ref() == 2
    assert domain.unref() == 1
    assert domain.unref() == 0
    with pytest.raises(ReferenceCountError, match="'web' has no reference left"):
        domain.unref()
    with pytest.raises(ReferenceCountError, match="'web' was referenced after it was freed"):
        domain.ref()
    assert domain.refs == 0


def test_define_find_undefine(child: subprocess.Popen[bytes]) -> None:
    driver = Driver()
    off = driver.define("off")
    web = driver.define("web", child)
    assert (off.active, off.id, off.pid, off.incarnation) == (False, None, None, None)
    assert (web.active, web.pid) == (True, child.pid)
    assert web.incarnation == Incarnation(id=1, pid=child.pid, started=start_time(child.pid))
    assert driver.find("web") is web
    assert driver.find("none") is None
    assert driver.domains() == [off, web]
    web.ref()
    driver.undefine("web")
    assert driver.find("web") is None
    assert web.refs == 1
    with pytest.raises(UnknownDomainError, match=r"no domain is named 'web'; defined: 'off'"):
        driver.undefine("web")


def test_defining_again_is_a_new_incarnation_of_the_same_domain(
    child: subprocess.Popen[bytes],
) -> None:
    driver = Driver()
    domain = driver.define("web", child.pid)
    first = domain.incarnation
    assert driver.define("web", os.getppid()) is domain
    assert domain.refs == 1
    assert domain.id == 2
    assert domain.pid == os.getppid()
    assert domain.incarnation != first
    assert driver.define("web") is domain
    assert not domain.active


@pytest.mark.parametrize("vm", [0, 1, -1, True, "12", object()])
def test_what_is_no_process_is_refused(vm: object) -> None:
    driver = Driver()
    with pytest.raises(UsageError, match="vm="):
        driver.define("web", vm)  # type: ignore[arg-type]
    assert driver.domains() == []


def test_an_unknown_lookup_is_refused() -> None:
    with pytest.raises(UsageError, match=r"lookup='global'.*\"coupled\" or \"referenced\""):
        Driver(lookup="global")  # type: ignore[arg-type]


def test_locks_come_from_the_factory() -> None:
    names: list[str] = []

    def make(name: str) -> OwnedLock:
        names.append(name)
        return OwnedLock(name)

    Driver(make_lock=make).define("web")
    assert names == ["driver", "domain web"]


def test_the_driver_lock_is_taken_only_if_the_caller_does_not_hold_it() -> None:
    driver = Driver()
    with driver.lock:
        domain = driver.define("web")
        assert driver.find("web") is domain
        assert driver.domains() == [domain]
        assert driver.list_all() == [("web", False)]
        with domain.lock:
            assert driver.define("web") is domain
            assert driver.list_all() == [("web", False)]
            assert domain.lock.held()
        driver.undefine("web")
        assert driver.lock.held()
    assert not driver.lock.held()
    assert not in_thread(driver.lock.locked)


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_look_up_yields_it_locked_and_referenced(lookup: Lookup) -> None:
    driver = Driver(lookup=lookup)
    domain = driver.define("web")
    with driver.look_up("web") as found:
        assert found is domain
        assert domain.lock.held()
        assert domain.refs == 2
        assert not driver.lock.locked()
    assert not domain.lock.locked()
    assert domain.refs == 1
    with driver.look_up("none") as found:
        assert found is None


class Announcing(OwnedLock):
    """Says when somebody is about to wait for it."""

    __slots__ = ("wanted",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.wanted = threading.Event()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002 - threading's own signature
        if not self.held() and self.locked():
            self.wanted.set()
        return super().acquire(blocking, timeout)


@pytest.mark.parametrize("operation", ["look_up", "list_all"])
@pytest.mark.parametrize(("lookup", "driver_is_held"), [("coupled", True), ("referenced", False)])
def test_who_waits_for_a_domain_holds_the_driver_only_in_2012(
    operation: str,
    lookup: Lookup,
    driver_is_held: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    driver = Driver(lookup=lookup, make_lock=Announcing)
    domain = driver.define("web")
    assert isinstance(domain.lock, Announcing)

    def look_up() -> None:
        with driver.look_up("web"):
            pass

    with ThreadPoolExecutor(1) as pool:
        with domain.lock:
            waiting = pool.submit(look_up if operation == "look_up" else driver.list_all)
            assert domain.lock.wanted.wait(DEADLINE), "nobody came for the domain lock"
            assert driver.lock.locked() == driver_is_held
            assert domain.refs == (1 if (operation, lookup) == ("list_all", "coupled") else 2)
        waiting.result(DEADLINE)
    assert domain.refs == 1


def test_list_all(child: subprocess.Popen[bytes]) -> None:
    driver = Driver()
    driver.define("off")
    driver.define("web", child)
    assert driver.list_all() == [("off", False), ("web", True)]


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_destroy_kills_and_cleans_up(lookup: Lookup, child: subprocess.Popen[bytes]) -> None:
    driver = Driver(lookup=lookup)
    domain = driver.define("web", child)
    result = driver.destroy("web")
    assert result.ok
    assert result.dead
    assert child.wait(DEADLINE) == -15
    assert (domain.id, domain.pid, domain.active) == (None, None, False)
    assert domain.refs == 1
    assert not driver.lock.locked()
    assert not domain.lock.locked()
    assert str(driver.destroy("web")) == "KillResult(was not running)"


def test_destroy_of_an_unknown_name() -> None:
    driver = Driver()
    with pytest.raises(UnknownDomainError, match="no domain is named 'web'; defined: none"):
        driver.destroy("web")
    assert not driver.lock.locked()


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_destroy_that_fails_or_does_not_wait_cleans_nothing_up(
    lookup: Lookup, child: subprocess.Popen[bytes]
) -> None:
    driver = Driver(lookup=lookup)
    domain = driver.define("web", child)
    stop(child)
    result = driver.destroy("web", 0, policy=KillPolicy(grace=0.02, reap=0.02))
    assert not result.ok
    assert result.dead is False
    assert (domain.id, domain.pid) == (1, child.pid)
    assert driver.destroy("web", KillFlags.NOWAIT).dead is None
    assert domain.active
    # destroy after a destroy that hung
    result = driver.destroy("web", policy=KillPolicy(grace=0.02))
    assert (result.dead, result.signal) == (True, 9)
    assert not domain.active
    assert domain.refs == 1


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_two_that_destroy_clean_up_once(
    lookup: Lookup, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned: list[bool] = []
    clean_up = Domain.clean_up

    def counted(domain: Domain, incarnation: Incarnation) -> bool:
        cleaned.append(clean_up(domain, incarnation))
        return cleaned[-1]

    monkeypatch.setattr(Domain, "clean_up", counted)
    driver = Driver(lookup=lookup)
    domain = driver.define("web", child)
    stop(child)
    second_came = threading.Event()

    def announced(*args: object, **kwargs: object) -> KillResult:
        if domain.sent:
            second_came.set()
        return process_kill(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(callers, "process_kill", announced)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(driver.destroy, "web", policy=KillPolicy(grace=60)) for _ in range(2)]
        assert second_came.wait(DEADLINE), "the second call never got the locks"
        child.send_signal(signal.SIGCONT)  # now it sees SIGTERM
        results = [call.result(DEADLINE) for call in calls]
    assert [(result.dead, result.signal) for result in results] == [(True, 15), (True, 15)]
    assert cleaned.count(True) == 1
    assert not domain.active
    assert domain.refs == 1


def test_destroy_leaves_the_successor_alone(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver()
    domain = driver.define("web", child)

    def restarted_meanwhile(*args: object, **kwargs: object) -> KillResult:
        result = process_kill(*args, **kwargs)  # type: ignore[arg-type]
        driver.define("web", os.getppid())
        return result

    monkeypatch.setattr(callers, "process_kill", restarted_meanwhile)
    assert driver.destroy("web").dead
    assert (domain.id, domain.pid) == (2, os.getppid())


def test_clean_up_is_for_one_incarnation() -> None:
    domain = Domain("web")
    old, new = Incarnation(id=1, pid=12), Incarnation(id=2, pid=12)
    domain.begin(new)
    assert not domain.clean_up(old)
    assert domain.incarnation == new
    assert domain.clean_up(new)
    assert not domain.clean_up(new)


def test_start_time_tells_processes_apart(child: subprocess.Popen[bytes]) -> None:
    assert start_time(child.pid) == start_time(child.pid)
    mine = start_time(os.getpid())
    theirs = start_time(child.pid)
    assert mine is not None
    assert theirs is not None
    assert mine < theirs
    child.kill()
    child.wait(DEADLINE)
    assert start_time(child.pid) is None


def test_records_have_one_line() -> None:
    domain = Domain("web")
    domain.begin(Incarnation(id=3, pid=12))
    assert repr(domain) == "<Domain 'web' id=3 pid=12 refs=1>"
    assert str(domain.incarnation) == "incarnation 3 (pid 12)"
    assert repr(Driver()) == "<Driver of 0 domains, lookup='coupled'>"


# -- the job


@pytest.mark.parametrize("traced", [False, True], ids=["own lock", "traced lock"])
def test_the_job_is_waited_for_without_the_lock(traced: bool) -> None:  # noqa: FBT001 - a parameter
    domain = Domain("web", LockTracer().lock("domain web") if traced else None)
    got: list[tuple[str, bool]] = []
    waiting = threading.Event()

    def second() -> None:
        with domain.lock:
            waiting.set()
            got.append(("second", domain.begin_job("second", 20.0)))
            domain.end_job()

    with domain.lock:
        assert domain.begin_job("first", 0.0)
        assert domain.job == "first"
        assert not domain.begin_job("third", 0.0), "somebody has it"
        thread = threading.Thread(target=second, daemon=True)
        thread.start()
    assert waiting.wait(20)
    with domain.lock:
        assert got == []
        domain.end_job()
    thread.join(20)
    assert got == [("second", True)]
    assert domain.job is None


def test_who_waits_for_the_end_of_a_run_is_woken_by_its_clean_up() -> None:
    domain = Domain("web")
    domain.begin(Incarnation(id=3, pid=12))
    inactive: list[bool] = []
    waiting = threading.Event()

    def wait() -> None:
        with domain.lock:
            waiting.set()
            inactive.append(domain.changed.wait_for(lambda: not domain.active, 20.0))

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    assert waiting.wait(20)
    with domain.lock:
        domain.tear_down()
    thread.join(20)
    assert inactive == [True]
