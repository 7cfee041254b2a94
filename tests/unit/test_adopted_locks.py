"""The user's own locks, traced for a while: they work as ever, and are restored after it."""

from __future__ import annotations

import threading
import types
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from pytest_gracekill.errors import UsageError
from pytest_gracekill.witness.adopted import adopted, check
from pytest_gracekill.witness.locks import LockTracer, TracedLock

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE = 30.0


class Manager:
    """As people write them: a lock, and a Condition over it."""

    def __init__(self, make: Callable[[], Any] = threading.Lock) -> None:
        self._lock: Any = make()
        self._changed = threading.Condition(self._lock)
        self.state = "running"

    def wait_until(self, state: str) -> bool:
        with self._lock:
            while self.state != state:
                if not self._changed.wait(DEADLINE):
                    return False
            return True

    def change(self, state: str) -> None:
        with self._changed:
            self.state = state
            self._changed.notify_all()


class Thread(threading.Thread):
    """A thread whose exception is raised where it is joined."""

    def __init__(self, body: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._body = body
        self.result: object = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._body()
        except BaseException as error:  # noqa: BLE001 - raised again by `end`
            self.error = error

    def end(self) -> object:
        self.join(DEADLINE)
        assert not self.is_alive(), f"it has not ended within {DEADLINE} s"
        if self.error is not None:
            raise self.error
        return self.result


def until(condition: Callable[[], object]) -> None:
    pause = threading.Event()
    for _ in range(int(DEADLINE * 1000)):
        if condition():
            return
        pause.wait(0.001)
    raise TimeoutError(f"waited {DEADLINE} s")


def is_free(lock: Any) -> bool:
    def look() -> bool:
        taken = bool(lock.acquire(blocking=False))
        if taken:
            lock.release()
        return taken

    return bool(Thread(look).end())


BOTH = pytest.mark.parametrize("make", [threading.Lock, threading.RLock, threading._PyRLock])  # type: ignore[attr-defined]


# -- in its place, and back


@BOTH
def test_traced_and_restored(make: Callable[[], Any]) -> None:
    manager, tracer = Manager(make), LockTracer()
    original, wires = manager._lock, dict(vars(manager._changed))
    with adopted([(manager, "_lock")], tracer) as (lock,):
        assert manager._lock is lock
        with manager._lock:
            assert lock.owner == threading.current_thread().name
            # whoever has the original under another name is kept out
            assert not is_free(original)
        assert is_free(original)
        assert lock.name == "Manager._lock"
    assert manager._lock is original
    assert vars(manager._changed) == wires
    assert [hold.lock for hold in tracer.history.holds] == ["Manager._lock"]


@pytest.mark.parametrize("attribute", ["_lock", "_changed"])
@BOTH
def test_all_names_in_one_object_are_one_lock(make: Callable[[], Any], attribute: str) -> None:
    manager, tracer = Manager(make), LockTracer()
    condition = manager._changed
    with adopted([(manager, attribute)], tracer) as (lock,):
        assert manager._changed is condition
        waiting = Thread(lambda: manager.wait_until("dead"))
        until(lambda: condition._waiters)  # type: ignore[attr-defined]
        until(lambda: not lock.locked())
        manager.change("dead")
        assert waiting.end() is True
        # two holds of the waiter: before its wait, and after it
        assert len(tracer.history.holds) == 3
        assert {hold.lock for hold in tracer.history.holds} == {f"Manager.{attribute}"}
        assert not lock.is_semaphore
        assert lock.owner is None


def test_both_named_are_one_lock_under_the_first_name() -> None:
    manager = Manager()
    original, wires = manager._lock, dict(vars(manager._changed))
    named = [(manager, "_changed"), (manager, "_lock")]
    check(named)
    with adopted(named, LockTracer()) as locks:
        assert [lock.name for lock in locks] == ["Manager._changed"]
        assert manager._lock is locks[0]
    assert manager._lock is original
    assert vars(manager._changed) == wires


def test_a_lock_shared_by_two_objects_is_traced_in_both() -> None:
    one, two = Manager(), Manager()
    two._lock = shared = one._lock
    with adopted([(one, "_lock"), (two, "_lock")], LockTracer()) as (lock,):
        assert one._lock is lock
        assert two._lock is lock
    assert one._lock is two._lock is shared


def test_two_managers_of_a_kind_have_two_names() -> None:
    one, two = Manager(), Manager()
    with adopted([(one, "_lock"), (two, "_lock")], LockTracer()) as locks:
        assert [lock.name for lock in locks] == ["Manager._lock", "Manager._lock-2"]
        # they are different locks of one class
        assert {lock.class_ for lock in locks} == {"Manager._lock"}


class Shared:
    lock: ClassVar[Any] = threading.Lock()


class Derived(Shared):
    pass


class Slotted:
    __slots__ = ("__weakref__", "_lock", "_never_set", "changed")

    def __init__(self) -> None:
        self._lock: Any = threading.RLock()
        self.changed = threading.Condition(self._lock)


class WithSetter:
    def __init__(self) -> None:
        self._kept: Any = threading.Lock()

    @property
    def lock(self) -> Any:
        return self._kept

    @lock.setter
    def lock(self, value: Any) -> None:
        self._kept = value


@pytest.mark.parametrize("owner", [Shared, Derived, Shared(), Derived()])
def test_a_lock_of_the_class_is_traced_for_all(owner: object) -> None:
    original = Shared.lock
    with adopted([(owner, "lock")], LockTracer()) as (lock,):
        for place in (Shared, Derived, Shared(), Derived()):
            assert getattr(place, "lock") is lock  # noqa: B009 - mypy knows another type
        assert lock.name == "Shared.lock"
    assert Shared.lock is Derived.lock is original
    assert "lock" not in vars(Derived)
    assert "lock" not in getattr(owner, "__dict__", {}) or owner is Shared


def test_slots() -> None:
    manager = Slotted()
    original, wires = manager._lock, dict(vars(manager.changed))
    with adopted([(manager, "_lock")], LockTracer()) as (lock,):
        assert manager._lock is lock
        with manager.changed:
            assert lock.held()
    assert manager._lock is original
    assert vars(manager.changed) == wires


def test_a_property_that_can_be_set() -> None:
    manager = WithSetter()
    original = manager.lock
    with adopted([(manager, "lock")], LockTracer()) as (lock,):
        assert manager._kept is lock
    assert manager._kept is original


def test_a_module() -> None:
    module: Any = types.ModuleType("vmtool.process")
    original: Any = threading.Lock()
    module.LOCK = original
    with adopted([(module, "LOCK")], LockTracer()) as (lock,):
        assert module.LOCK is lock
        assert lock.name == "process.LOCK"
    assert module.LOCK is original


def test_what_the_user_has_put_there_meanwhile_stays() -> None:
    manager = Manager()
    with adopted([(manager, "_lock")], LockTracer()):
        new = threading.Lock()
        manager._lock = new
    assert manager._lock is new


def test_a_condition_of_a_subclass_stays_what_it_is() -> None:
    class Announcing(threading.Condition):
        def announce(self) -> None:
            with self:
                self.notify_all()

    manager: Any = types.SimpleNamespace(changed=Announcing())
    condition, wires = manager.changed, dict(vars(manager.changed))
    with adopted([(manager, "changed")], LockTracer()) as (lock,):
        assert manager.changed is condition
        condition.announce()
        assert lock.statistics().acquisitions == 1
    assert vars(condition) == wires


class Boom(BaseException):
    pass


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Boom, ValueError])
def test_restored_whatever_happens(kind: type[BaseException]) -> None:
    manager = Manager()
    original, wires = manager._lock, dict(vars(manager._changed))
    with pytest.raises(kind), adopted([(manager, "_lock")], LockTracer()), manager._lock:
        raise kind
    assert manager._lock is original
    assert vars(manager._changed) == wires
    assert is_free(original)


def test_restored_when_a_later_one_cannot_be_used() -> None:
    manager, other = Manager(), Manager()
    original = manager._lock
    named = [(manager, "_lock"), (other, "_lock")]
    with (
        other._lock,
        pytest.raises(UsageError, match=r"Manager\._lock is held when the trial begins"),
        adopted(named, LockTracer()),
    ):
        pass
    assert manager._lock is original
    assert is_free(original)


# -- the same lock by a name that is not traced


@BOTH
def test_an_alias_elsewhere_waits_and_notifies(make: Callable[[], Any]) -> None:
    manager = Manager(make)
    elsewhere = threading.Condition(manager._lock)
    with adopted([(manager, "_lock")], LockTracer()) as (lock,):
        done: list[str] = []

        def wait() -> None:
            with manager._lock:
                while not done:
                    assert elsewhere.wait(DEADLINE)

        waiting = Thread(wait)
        until(lambda: elsewhere._waiters)  # type: ignore[attr-defined]
        with manager._lock:
            done.append("now")
            elsewhere.notify_all()
        waiting.end()
        assert not lock.is_semaphore
        assert not lock.locked()
        assert is_free(manager._lock)


def test_an_alias_lets_go_of_every_re_entry() -> None:
    manager = Manager(threading.RLock)
    elsewhere = threading.Condition(manager._lock)
    with adopted([(manager, "_lock")], LockTracer()) as (lock,):
        notified: list[bool] = []

        def wait() -> None:
            with manager._lock, manager._lock, elsewhere:
                notified.append(elsewhere.wait(DEADLINE))
                assert lock._is_owned()

        waiting = Thread(wait)
        until(lambda: elsewhere._waiters)  # type: ignore[attr-defined]
        with manager._lock, elsewhere:
            elsewhere.notify_all()
            # it comes back to a lock that is taken twice
            with manager._lock:
                pass
        waiting.end()
        assert notified == [True]
        assert is_free(manager._lock)


@BOTH
def test_taken_before_the_trial_and_let_go_in_it(make: Callable[[], Any]) -> None:
    """A worker that waits on a Condition when the trial begins, and goes on waiting in it."""
    manager, tracer = Manager(make), LockTracer()
    waiting = Thread(lambda: manager.wait_until("dead"))
    until(lambda: manager._changed._waiters)  # type: ignore[attr-defined]
    until(lambda: is_free(manager._lock))
    with adopted([(manager, "_lock")], tracer) as (lock,):
        for state in ("paused", "dying"):
            manager.change(state)
            until(lambda: manager._changed._waiters)  # type: ignore[attr-defined]
            until(lambda: is_free(lock))
        manager.change("dead")
        assert waiting.end() is True
        assert not lock.is_semaphore
        assert is_free(lock)
        assert tracer.held_by(threading.get_ident()) == []


@BOTH
def test_taken_in_the_trial_and_let_go_after_it(make: Callable[[], Any]) -> None:
    manager = Manager(make)
    original = manager._lock
    with ExitStack() as stack:
        stack.enter_context(adopted([(manager, "_lock")], LockTracer()))
        waiting = Thread(lambda: manager.wait_until("dead"))
        until(lambda: manager._changed._waiters)  # type: ignore[attr-defined]
        until(lambda: is_free(original))
    manager.change("paused")
    until(lambda: manager._changed._waiters)  # type: ignore[attr-defined]
    manager.change("dead")
    assert waiting.end() is True
    assert manager._lock is original
    assert is_free(original)


def test_an_rlock_is_taken_again() -> None:
    manager = Manager(threading.RLock)
    original = manager._lock
    with adopted([(manager, "_lock")], LockTracer()) as (lock,):
        with manager._lock, manager._lock, original:
            assert manager._lock.acquire(timeout=1)
            manager._lock.release()
            assert not is_free(original)
        assert is_free(original)
        with pytest.raises(RuntimeError, match="cannot release un-acquired lock"):
            manager._lock.release()
        assert lock.statistics().acquisitions == 1


def test_an_rlock_waits_with_all_its_re_entries() -> None:
    manager, tracer = Manager(threading.RLock), LockTracer()
    with adopted([(manager, "_changed")], tracer) as (lock,):

        def wait() -> bool:
            with manager._changed, manager._lock:
                found = manager._changed.wait(DEADLINE)
                assert lock.held()
                return found

        waiting = Thread(wait)
        until(lambda: manager._changed._waiters)  # type: ignore[attr-defined]
        manager.change("dead")
        assert waiting.end() is True
        assert is_free(lock)
        assert lock.owner is None


def test_a_hand_over_still_makes_a_semaphore() -> None:
    manager = Manager()
    with adopted([(manager, "_lock")], LockTracer()) as (lock,):
        manager._lock.acquire()
        Thread(manager._lock.release).end()
        assert lock.is_semaphore
        with pytest.raises(RuntimeError):
            manager._lock.release()


@BOTH
def test_notify_needs_the_lock_by_whatever_name(make: Callable[[], Any]) -> None:
    manager = Manager(make)
    original = manager._lock
    with adopted([(manager, "_lock")], LockTracer()):
        with pytest.raises(RuntimeError, match="cannot notify on un-acquired lock"):
            manager._changed.notify()
        with original:
            manager._changed.notify()


# -- what cannot be used


class Fixed:
    def __init__(self) -> None:
        self._kept = threading.Lock()

    @property
    def lock(self) -> threading.Lock:
        return self._kept


@pytest.mark.parametrize(
    ("locks", "text"),
    [
        ("_lock", r"locks='_lock': a list of pairs \(object, 'attribute'\) is needed"),
        ([Manager()], "a list of pairs"),
        ([(Manager(), 3)], "a list of pairs"),
        ([(Manager(), "_lokc")], r"locks=\(Manager object, '_lokc'\): it has no such attribute"),
        ([(Manager(), "state")], r"it is a builtins\.str; a threading\.Lock, RLock or Condition"),
        ([(Fixed(), "lock")], "it cannot be replaced .* it is a property: name the attribute"),
    ],
)
def test_what_is_no_lock(locks: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text) as raised:
        check(locks, "marker gracekill")
    assert "marker gracekill" in str(raised.value)


def test_named_twice() -> None:
    manager = Manager()
    with pytest.raises(UsageError, match=r"locks: Manager\._lock is named twice"):
        check([(manager, "_lock"), (manager, "_lock")])


def test_held_by_another_for_a_moment_is_waited_for() -> None:
    manager = Manager()
    taken, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with manager._lock:
            taken.set()
            assert leave.wait(DEADLINE)

    holding = Thread(hold)
    assert taken.wait(DEADLINE)
    timer = threading.Timer(0.1, leave.set)
    timer.start()
    with adopted([(manager, "_lock")], LockTracer()) as (lock,):
        assert isinstance(lock, TracedLock)
    holding.end()
    timer.join()


@pytest.mark.parametrize("make", [threading.Lock, threading.RLock])
def test_held_by_the_caller_is_refused(make: Callable[[], Any]) -> None:
    manager = Manager(make)
    with (
        manager._lock,
        pytest.raises(UsageError, match="is held when the trial begins"),
        adopted([(manager, "_lock")], LockTracer()),
    ):
        pass
