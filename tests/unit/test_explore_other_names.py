"""A lock that is named is simulated under whatever name it is reached, or that is an error."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill.errors import UsageError

if TYPE_CHECKING:
    from pytest_gracekill.fixtures import Judge

PLAIN = type(threading.Lock())


def stop(pid: int) -> bool:
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


class Manager:
    shared = threading.Lock()

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.also = self.lock

    def stop(self, pid: int) -> bool:
        with self.also, self.shared:
            return stop(pid)

    def look(self) -> None:
        with self.shared, self.lock:
            pass


def test_what_another_module_has_imported_is_the_same_lock(
    gracekill: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = ModuleType("home_of_locks")
    home.one, home.other = threading.Lock(), threading.Lock()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "home_of_locks", home)
    here = sys.modules[__name__]
    monkeypatch.setattr(here, "imported", home.other, raising=False)

    def wrong(pid: int) -> bool:
        with here.imported, home.one:
            return stop(pid)

    def status() -> None:
        with home.one, home.other:
            pass

    found = gracekill.explore(
        wrong, locks=[(home, "one"), (home, "other")], contend=[status], all_failures=True
    )
    words = {failure.report.verdicts["deadlock"].word for failure in found.failures}
    assert "DEADLOCK" in words
    assert type(here.imported) is PLAIN


def test_another_attribute_has_to_be_named(gracekill: Judge) -> None:
    manager = Manager()
    with pytest.raises(UsageError, match=r"also is another name of a lock that is named in locks="):
        gracekill.explore(
            manager.stop, locks=[(manager, "lock"), (manager, "shared")], contend=[manager.look]
        )


def test_one_lock_under_two_names_and_that_of_a_class(gracekill: Judge) -> None:
    manager = Manager()
    locks = [(manager, "lock"), (manager, "also"), (manager, "shared")]
    found = gracekill.explore(manager.stop, locks=locks, contend=[manager.look], all_failures=True)
    words = {failure.report.verdicts["deadlock"].word for failure in found.failures}
    assert "DEADLOCK" in words
    assert manager.also is manager.lock
    assert type(manager.lock) is type(Manager.shared) is PLAIN
    assert "shared" not in vars(manager)


def test_what_cannot_be_replaced_is_an_error_and_changes_nothing(gracekill: Judge) -> None:
    class Fixed(Manager):
        @property
        def fixed(self) -> object:
            return self.lock

    manager = Fixed()
    locks: list[tuple[object, str]] = [(manager, "lock"), (manager, "fixed")]
    with pytest.raises(UsageError, match=r"cannot be replaced .* name the attribute that it reads"):
        gracekill.explore(manager.stop, locks=locks)
    assert type(manager.lock) is PLAIN
    with pytest.raises(UsageError, match=r"locks: Fixed\.lock is named twice"):
        gracekill.explore(manager.stop, locks=[(manager, "lock"), (manager, "lock")])


def test_a_vm_that_goes_on_flushing_ends_by_itself(gracekill: Judge) -> None:
    def early(pid: int) -> bool:
        os.kill(pid, signal.SIGTERM)
        return True

    report = gracekill.explore(early, flush_time=1.0, clock="jump").failure
    assert report is not None
    assert report.verdicts["outcome"].word == "EARLY"
    assert report.not_judged["leftovers"] == "nothing is left of a simulated VM"
