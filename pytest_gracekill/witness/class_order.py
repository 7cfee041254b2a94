"""The order of locks by their classes: in one trial, and over all trials of a session.

What is done to one domain's lock is done to another's: `driver` before a domain's lock here and
after another domain's there is a cycle, although no single lock was taken both ways. Over a session
only classes are known, since the locks are others in each trial.

Two locks of one class are no edge here: which of them comes first may be decided by what they
belong to, and only the locks themselves tell (`lock_order`). For the same reason a lock that is
asked for while another one of its class is held makes no edge. Edges under a lock of one class are
taken to be guarded by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_gracekill.witness.lock_order import OrderCycle, OrderEdge, harmful_circles, readable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_gracekill.witness.lock_order import LockOrder

_Pair = tuple[str, str]


class _ClassEdge(NamedTuple):
    edge: OrderEdge
    thread: object
    gates: frozenset[str]


def class_cycles(order: LockOrder, found: list[OrderCycle]) -> list[OrderCycle]:
    """Find the cycles of classes in one trial beside those that its locks themselves make."""
    known = {
        frozenset((edge.held_class, edge.asked_class) for edge in cycle.edges) for cycle in found
    }
    cycles = []
    for edges in harmful_circles(_class_edges(order)):
        cycle = OrderCycle(edges=tuple(kind.edge for kind in edges), by_class=True)
        pairs = frozenset((edge.held_class, edge.asked_class) for edge in cycle.edges)
        if pairs not in known:
            known.add(pairs)
            cycles.append(cycle)
    return cycles


class SessionOrder:
    """The edges of all trials of a session, each as it was first seen."""

    def __init__(self) -> None:
        self._edges: dict[_Pair, list[_ClassEdge]] = {}

    def add(self, trial: str, order: LockOrder) -> list[OrderCycle]:
        """Add a trial's edges; returns the cycles that it closes together with earlier trials."""
        news = {
            pair: [kind for kind in kinds if not self._knows(pair, kind)]
            for pair, kinds in _class_edges(order, trial).items()
        }
        news = {pair: kinds for pair, kinds in news.items() if kinds}
        for pair, kinds in news.items():
            self._edges.setdefault(pair, []).extend(kinds)
        if not news:
            return []
        new = {id(kind) for kinds in news.values() for kind in kinds}
        cycles = []
        for edges in harmful_circles(self._newest_first(new)):
            is_new = [id(kind) in new for kind in edges]
            # one of a single trial is that trial's own finding
            if any(is_new) and not all(is_new):
                cycle = OrderCycle(edges=tuple(kind.edge for kind in edges), by_class=True)
                cycles.append(cycle)
        return cycles

    def _knows(self, pair: _Pair, kind: _ClassEdge) -> bool:
        # an edge seen under fewer gates says all that this one could say
        return any(known.gates <= kind.gates for known in self._edges.get(pair, ()))

    def _newest_first(self, new: set[int]) -> dict[_Pair, list[_ClassEdge]]:
        return {
            pair: sorted(kinds, key=lambda kind: id(kind) not in new)
            for pair, kinds in self._edges.items()
        }


class TrialOrder:
    """The session's order as one trial has it."""

    def __init__(self, session: SessionOrder, trial: str) -> None:
        self._session = session
        self._trial = trial

    def close(self, order: LockOrder) -> list[OrderCycle]:
        """Add what the trial has seen; returns the cycles that it closes."""
        return self._session.add(self._trial, order)


def _class_edges(order: LockOrder, trial: str = "") -> Mapping[_Pair, list[_ClassEdge]]:
    found: dict[_Pair, list[_ClassEdge]] = {}
    for (held, asked), kinds in order.edges().items():
        if held.kind == asked.kind:
            continue
        for kind in kinds:
            gates = frozenset(gate.kind for gate in kind.gates)
            if asked.kind in gates:
                continue
            edge = readable(kind, trial)
            found.setdefault((held.kind, asked.kind), []).append(
                _ClassEdge(edge, (trial, kind.thread), gates)
            )
    return found
