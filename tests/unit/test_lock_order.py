"""A cycle in the order of acquisitions is found although nothing hung; a gate makes it harmless."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gracekill.witness.adopted import adopted
from pytest_gracekill.witness.class_order import SessionOrder
from pytest_gracekill.witness.locks import LockTracer

if TYPE_CHECKING:
    from pytest_gracekill.witness.locks import OrderCycle, TracedLock

DEADLINE = 30.0


def take(*locks: TracedLock, thread: str | None = None) -> None:
    """Take locks in this order and release them, in a thread of that name if there is one."""

    def body() -> None:
        with ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)

    if thread is None:
        body()
        return
    worker = threading.Thread(target=body, name=thread, daemon=True)
    worker.start()
    worker.join(DEADLINE)
    assert not worker.is_alive(), f"{thread} has not ended within {DEADLINE} s"


def only(cycles: list[OrderCycle]) -> OrderCycle:
    (cycle,) = cycles
    return cycle


def test_opposite_orders_in_two_threads_are_a_cycle() -> None:
    tracer = LockTracer()
    driver, domain = tracer.lock("driver"), tracer.lock("domain vm", "domain")
    take(driver, domain, thread="x")
    assert tracer.order_cycles() == []
    take(domain, driver, thread="y")
    cycle = only(tracer.order_cycles())
    assert str(cycle) == "driver -> domain vm -> driver"
    assert cycle.locks == ("driver", "domain vm")
    assert cycle.threads == ("x", "y")
    assert [(edge.held, edge.asked, edge.thread) for edge in cycle.edges] == [
        ("driver", "domain vm", "x"),
        ("domain vm", "driver", "y"),
    ]
    assert [(edge.held_class, edge.asked_class) for edge in cycle.edges] == [
        ("driver", "domain"),
        ("domain", "driver"),
    ]
    assert tracer.deadlocks == []


def test_every_edge_names_both_places() -> None:
    tracer = LockTracer()
    one, two = tracer.lock("a"), tracer.lock("b")
    first = test_every_edge_names_both_places.__code__.co_firstlineno
    with one:
        two.acquire()
        two.release()
    two.acquire()
    with one:
        two.release()
    cycle = only(tracer.order_cycles())
    lines = [(edge.held_at[0].line - first, edge.asked_at[0].line - first) for edge in cycle.edges]
    assert lines == [(4, 5), (7, 8)]
    assert {frame.file for edge in cycle.edges for frame in edge.held_at[:1]} == {__file__}
    text = cycle.describe()
    for line in (4, 5, 7, 8):
        assert (
            f"{Path(__file__).name}:{first + line} in {test_every_edge_names_both_places.__name__}"
            in text
        )
    name = threading.current_thread().name
    assert f"{name} held a, taken at" in text
    assert "and asked for b at" in text


def test_one_thread_alone_is_reported() -> None:
    tracer = LockTracer()
    one, two = tracer.lock("a"), tracer.lock("b")
    take(one, two)
    take(two, one)
    assert only(tracer.order_cycles()).threads == (threading.current_thread().name,)


def test_two_threads_are_shown_where_there_are_two() -> None:
    tracer = LockTracer()
    one, two = tracer.lock("a"), tracer.lock("b")
    take(one, two)
    take(two, one)
    take(two, one, thread="y")
    assert only(tracer.order_cycles()).threads == (threading.current_thread().name, "y")


def test_three_locks_in_a_circle() -> None:
    tracer = LockTracer()
    one, two, three = (tracer.rlock(name) for name in "abc")
    take(one, two)
    take(two, three)
    assert tracer.order_cycles() == []
    take(three, one)
    assert str(only(tracer.order_cycles())) == "a -> b -> c -> a"


def test_a_common_gate_makes_it_harmless() -> None:
    tracer = LockTracer()
    gate, one, two = (tracer.lock(name) for name in ("gate", "a", "b"))
    take(gate, one, two, thread="x")
    take(gate, two, one, thread="y")
    assert tracer.order_cycles() == []
    # once without it is enough: the gate of the other thread does not keep this one out
    take(two, one, thread="y")
    cycle = only(tracer.order_cycles())
    assert cycle.locks == ("a", "b")
    assert [edge.gates for edge in cycle.edges] == [("gate",), ()]


def test_different_gates_do_not_help() -> None:
    tracer = LockTracer()
    gate, other, one, two = (tracer.lock(name) for name in ("gate", "other", "a", "b"))
    take(gate, one, two)
    take(other, two, one)
    cycle = only(tracer.order_cycles())
    assert [edge.gates for edge in cycle.edges] == [("gate",), ("other",)]
    assert "held a, under gate, taken at" in cycle.describe()


def test_a_gate_taken_by_trying_guards_as_well() -> None:
    tracer = LockTracer()
    gate, one, two = (tracer.lock(name) for name in ("gate", "a", "b"))
    for first, second in ((one, two), (two, one)):
        assert gate.acquire(blocking=False)
        take(first, second)
        gate.release()
    assert tracer.order_cycles() == []


def test_a_handed_over_lock_is_no_gate() -> None:
    tracer = LockTracer()
    gate, one, two = (tracer.lock(name) for name in ("gate", "a", "b"))
    gate.acquire()
    thread = threading.Thread(target=gate.release)
    thread.start()
    thread.join(DEADLINE)
    take(gate, one, two)
    take(gate, two, one)
    assert only(tracer.order_cycles()).locks == ("a", "b")


def test_a_lock_that_turns_out_to_be_a_semaphore_takes_its_edges_along() -> None:
    tracer = LockTracer()
    one, two = tracer.lock("a"), tracer.lock("b")
    take(one, two)
    take(two, one)
    assert len(tracer.order_cycles()) == 1
    one.acquire()
    thread = threading.Thread(target=one.release)
    thread.start()
    thread.join(DEADLINE)
    assert tracer.order_cycles() == []
    take(one, two)
    take(two, one)
    assert tracer.order_cycles() == []


def test_tries_and_timed_waits_make_no_edge() -> None:
    tracer = LockTracer()
    one, two = tracer.lock("a"), tracer.lock("b")
    take(one, two)
    with two:
        assert one.acquire(blocking=False)
        one.release()
        assert one.acquire(timeout=1)
        one.release()
    assert tracer.order_cycles() == []


def test_asking_is_enough() -> None:
    """The edge is there before the lock is: also when the wait ends in a deadlock."""
    tracer = LockTracer()
    one, two = tracer.lock("a"), tracer.lock("b")
    take(one, two)
    with two:
        with one:
            pass
        assert len(tracer.order_cycles()) == 1


def test_taking_an_rlock_again_makes_no_edge() -> None:
    tracer = LockTracer()
    one, two = tracer.rlock("a"), tracer.rlock("b")
    take(one, two, one)
    assert tracer.order_cycles() == []


def test_locks_of_one_class_need_a_cycle_of_their_own() -> None:
    tracer = LockTracer()
    domains = [tracer.lock(f"domain {name}", "domain") for name in "abc"]
    take(domains[0], domains[1])
    take(domains[1], domains[2])
    take(domains[0], domains[2])
    assert tracer.order_cycles() == []
    assert tracer.order.class_edges() == {("domain", "domain")}
    take(domains[2], domains[0])
    found = [str(cycle) for cycle in tracer.order_cycles()]
    assert found == [
        "domain a -> domain c -> domain a",
        "domain a -> domain b -> domain c -> domain a",
    ]


def test_cycles_of_the_same_names_and_places_are_reported_once() -> None:
    tracer = LockTracer()
    driver = tracer.lock("driver")
    for _ in range(50):
        domain = tracer.lock("domain vm", "domain")
        take(driver, domain)
        take(domain, driver)
    assert str(only(tracer.order_cycles())) == "driver -> domain vm -> driver"


def test_many_locks_in_one_order_are_searched_quickly() -> None:
    tracer = LockTracer()
    locks = [tracer.lock(f"lock {number}") for number in range(60)]
    for number in range(60):
        take(*locks[number : number + 12])
    assert tracer.order_cycles() == []


def test_an_order_after_stop_is_not_seen() -> None:
    tracer = LockTracer()
    one, two = tracer.lock("a"), tracer.lock("b")
    take(one, two)
    tracer.stop()
    take(two, one)
    assert tracer.order_cycles() == []


# -- by classes of locks


def test_one_class_before_and_after_another_is_a_cycle_of_classes() -> None:
    """No single lock is taken both ways: the routine's domain, and a contender's other one."""
    tracer = LockTracer()
    driver = tracer.lock("driver")
    mine, other = (tracer.lock(f"domain {name}", "domain") for name in ("mine", "other"))
    take(driver, other, thread="contender")
    assert tracer.order_cycles() == []
    take(mine, driver, thread="routine")
    cycle = only(tracer.order_cycles())
    assert cycle.by_class
    assert str(cycle) == "driver -> domain -> driver"
    assert [(edge.held, edge.asked, edge.thread) for edge in cycle.edges] == [
        ("driver", "domain other", "contender"),
        ("domain mine", "driver", "routine"),
    ]
    text = cycle.describe()
    assert "by classes of locks" in text
    assert text.count(Path(__file__).name) >= 4
    # once the locks themselves make one, they say it
    take(mine, driver, thread="routine")
    take(driver, mine, thread="contender")
    assert [cycle.by_class for cycle in tracer.order_cycles()] == [False]


def test_a_tree_of_one_class_around_another_is_no_cycle_of_classes() -> None:
    """A disk, the VM on it, a disk of that VM's: one order, which only single locks can tell."""
    tracer = LockTracer()
    base, overlay = (tracer.lock(f"disk {name}", "disk") for name in ("base", "overlay"))
    vm = tracer.lock("vm")
    take(base, vm, overlay, thread="x")
    take(base, vm, thread="y")
    take(base, overlay, thread="y")
    assert tracer.order_cycles() == []


def test_a_gate_of_a_class_guards_classes() -> None:
    tracer = LockTracer()
    gate, one = tracer.lock("gate"), tracer.lock("one")
    two, other = (tracer.lock(f"two {name}", "two") for name in "ab")
    take(gate, one, two)
    take(gate, other, one)
    assert tracer.order_cycles() == []


def test_two_locks_of_one_class_without_an_order() -> None:
    """One look-up takes them as they come, another one the other way round."""
    tracer = LockTracer()
    domains = [tracer.lock(f"domain {name}", "domain") for name in "ab"]
    take(*domains, thread="x")
    take(*reversed(domains), thread="y")
    cycle = only(tracer.order_cycles())
    assert not cycle.by_class
    assert {edge.held_class for edge in cycle.edges} == {"domain"}
    assert cycle.threads == ("x", "y")


# -- over a session


def in_trial(session: SessionOrder, trial: str, *orders: tuple[str, ...]) -> list[OrderCycle]:
    """A trial of its own locks, each of the class that it is named after, taken in these orders."""
    tracer = LockTracer()
    locks = {name: tracer.lock(f"{name} of {trial}", name) for order in orders for name in order}
    for order in orders:
        take(*(locks[name] for name in order), thread=f"thread of {trial}")
    return session.add(trial, tracer.order)


def test_a_cycle_that_needs_two_trials_is_told_by_the_one_that_closes_it() -> None:
    session = SessionOrder()
    assert in_trial(session, "test_one", ("driver", "domain")) == []
    assert in_trial(session, "test_two", ("driver", "domain")) == []
    cycle = only(in_trial(session, "test_three", ("domain", "driver")))
    assert str(cycle) == "driver -> domain -> driver"
    assert [(edge.trial, edge.held) for edge in cycle.edges] == [
        ("test_one", "driver of test_one"),
        ("test_three", "domain of test_three"),
    ]
    text = cycle.describe()
    assert "in test_one, thread of test_one held driver of test_one, taken at" in text
    assert "in test_three, thread of test_three held domain of test_three, taken at" in text
    assert text.count(f"{Path(__file__).name}:") >= 4
    # told once
    assert in_trial(session, "test_four", ("domain", "driver")) == []


def test_a_cycle_of_three_trials() -> None:
    session = SessionOrder()
    assert in_trial(session, "one", ("a", "b")) == []
    assert in_trial(session, "two", ("b", "c")) == []
    cycle = only(in_trial(session, "three", ("c", "a")))
    assert [edge.trial for edge in cycle.edges] == ["one", "two", "three"]


def test_a_cycle_of_one_trial_is_that_trials_own() -> None:
    session = SessionOrder()
    assert in_trial(session, "one", ("a", "b"), ("b", "a")) == []


def test_a_session_knows_gates() -> None:
    session = SessionOrder()
    assert in_trial(session, "one", ("gate", "a", "b")) == []
    assert in_trial(session, "two", ("gate", "b", "a")) == []
    # once without it is enough
    assert len(in_trial(session, "three", ("b", "a"))) == 1


def test_locks_of_one_class_have_no_order_over_a_session() -> None:
    """What orders them (an address, an id) is another in each trial."""
    session = SessionOrder()
    for trial, names in (("one", "ab"), ("two", "ba")):
        tracer = LockTracer()
        domains = {name: tracer.lock(f"domain {name}", "domain") for name in "ab"}
        take(*(domains[name] for name in names))
        assert session.add(trial, tracer.order) == []


def test_classes_of_one_name_from_two_modules_are_two() -> None:
    session = SessionOrder()
    for module, order in (("one", ("a", "b")), ("two", ("b", "a"))):
        owner: Any = type("Manager", (), {"__module__": module})()
        owner.a, owner.b = threading.Lock(), threading.Lock()
        tracer = LockTracer()
        with adopted([(owner, "a"), (owner, "b")], tracer) as locks:
            assert {lock.class_ for lock in locks} == {"Manager.a", "Manager.b"}
            take(*(getattr(owner, name) for name in order))
            assert session.add(module, tracer.order) == []
