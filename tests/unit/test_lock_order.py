"""A cycle in the order of acquisitions is found although nothing hung; a gate makes it harmless."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

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
