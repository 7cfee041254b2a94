"""In which order locks were taken: the deadlocks that a trial could have run into.

Whoever holds `a` and asks for `b`, to wait as long as it takes, makes the edge a -> b; asking is
enough. A cycle of edges is a deadlock that needs nothing but bad luck, whether its edges come from
many threads or, as in the kernel's lockdep, from a single one at different times. It is harmless
when two of its edges were seen under one common lock (a gate): they never happen at the same time.

Edges are between single locks, and between classes of locks (every domain's lock is of one), see
`class_order`. Try-locks and timed waits make no edge, taking a lock again makes none, semaphores
have none.

Not seen: an order that no run has taken, an order kept by something else than traced locks (a join,
a queue), and cycles of more than `LONGEST` locks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, islice, pairwise, product
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from pytest_gracekill.clock import monotonic_ns
from pytest_gracekill.witness.sites import Frame, Site, frames_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Hashable, Iterator, Mapping

    from pytest_gracekill.witness.traced_lock import TracedLock
    from pytest_gracekill.witness.wait_graph import ThreadState

LONGEST = 8
# bounds for graphs that no trial has: steps of the search, kinds of one edge, mixes of these
_STEPS = 200_000
_KINDS = 4
_MIXES = 256


class Ordered(Protocol):
    """What the search asks of an edge, between single locks or between classes of them."""

    @property
    def gates(self) -> frozenset[Any]: ...

    @property
    def thread(self) -> object: ...


Node = TypeVar("Node", bound="Hashable")
Step = TypeVar("Step", bound=Ordered)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEdge:
    """A thread held one lock and asked for another."""

    held: str
    held_class: str
    held_at: tuple[Frame, ...]
    asked: str
    asked_class: str
    asked_at: tuple[Frame, ...]
    thread: str
    gates: tuple[str, ...]
    trial: str = ""
    at_ns: int = 0

    def __str__(self) -> str:
        return f"{self.thread} held {self.held} and asked for {self.asked}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCycle:
    """Locks that were taken in a circle, by one thread or several.

    ``by_class``: not the very same locks, but locks of the same classes.
    """

    edges: tuple[OrderEdge, ...]
    by_class: bool = False

    @property
    def locks(self) -> tuple[str, ...]:
        """The locks of the cycle (or their classes), each once."""
        return tuple(edge.held_class if self.by_class else edge.held for edge in self.edges)

    @property
    def threads(self) -> tuple[str, ...]:
        """The threads that took them, each once."""
        return tuple(dict.fromkeys(edge.thread for edge in self.edges))

    def __str__(self) -> str:
        return " -> ".join((*self.locks, self.locks[0]))

    def describe(self) -> str:
        """Lines for people: every edge with its thread and both places."""
        lines = [f"lock order cycle {self}{', by classes of locks' if self.by_class else ''}"]
        for edge in self.edges:
            under = f", under {', '.join(edge.gates)}" if edge.gates else ""
            where = "taken at" if edge.held_at else "since the routine was called"
            trial = f"in {edge.trial}, " if edge.trial else ""
            lines.append(f"  {trial}{edge.thread} held {edge.held}{under}, {where}")
            lines += [f"    {frame}" for frame in edge.held_at]
            lines.append(f"  and asked for {edge.asked}{' at' if edge.asked_at else ''}")
            lines += [f"    {frame}" for frame in edge.asked_at]
        return "\n".join(lines)


class Edge(NamedTuple):
    """As seen: the locks themselves, and sites that nobody has looked up yet."""

    held: TracedLock
    held_at: Site
    asked: TracedLock
    asked_at: Site
    thread: ThreadState
    gates: frozenset[TracedLock]
    at_ns: int


class LockOrder:
    """The edges of one trial."""

    def __init__(self, mutex: threading.RLock) -> None:
        self._mutex = mutex
        # in the order in which they were first seen, so that reports are stable
        self._edges: dict[tuple[TracedLock, TracedLock], list[Edge]] = {}

    def ask(self, thread: ThreadState, asked: TracedLock, site: Site) -> None:
        """Note that a thread is about to wait for a lock, with all that it holds."""
        with self._mutex:
            held = [lock for lock in thread.held if not lock.is_semaphore]
            if not asked.is_semaphore and asked not in held:
                for lock in held:
                    gates = frozenset(held) - {lock}
                    hold = lock.hold
                    held_at = () if hold is None else hold[2]
                    self._add(Edge(lock, held_at, asked, site, thread, gates, monotonic_ns()))
            thread.asked.add((asked, *thread.held))

    def _add(self, edge: Edge) -> None:
        kinds = self._edges.setdefault((edge.held, edge.asked), [])
        # an edge seen under fewer gates says all that this one could say
        stronger = [known for known in kinds if known.gates <= edge.gates]
        if len(stronger) < _KINDS and all(known.thread is not edge.thread for known in stronger):
            kinds.append(edge)

    def drop(self, lock: TracedLock) -> None:
        """Forget a lock that has turned out to be a semaphore."""
        with self._mutex:
            for pair in [pair for pair in self._edges if lock in pair]:
                del self._edges[pair]

    def class_edges(self) -> set[tuple[str, str]]:
        """List which class of locks was held when which class was asked for."""
        with self._mutex:
            return {(held.class_, asked.class_) for held, asked in self._edges}

    def edges(self) -> dict[tuple[TracedLock, TracedLock], list[Edge]]:
        """Every edge by its two locks: each kind of it, under whatever gates."""
        with self._mutex:
            return {pair: list(kinds) for pair, kinds in self._edges.items()}

    def cycles(self) -> list[OrderCycle]:
        """Find the cycles that could become a deadlock, one for each set of places."""
        edges = self.edges()
        found: dict[object, OrderCycle] = {}
        for kinds in harmful_circles(edges):
            cycle = OrderCycle(edges=tuple(readable(edge) for edge in kinds))
            key = frozenset((edge.held, edge.asked, edge.asked_at) for edge in cycle.edges)
            found.setdefault(key, cycle)
        return list(found.values())


def harmful_circles(
    edges: Mapping[tuple[Node, Node], list[Step]],
) -> Iterator[tuple[Step, ...]]:
    """Walk the circles whose edges can all happen at once, short ones first."""
    for nodes in _circles(_within_circles(edges)):
        steps = list(pairwise((*nodes, nodes[0])))
        kinds = _harmful([edges[step] for step in steps])
        if kinds is not None:
            yield kinds


def _within_circles(edges: Mapping[tuple[Node, Node], object]) -> dict[Node, list[Node]]:
    """Strip off, again and again, locks that nothing leads to or nothing leads away from."""
    pairs = list(edges)
    while True:
        inner = {held for held, _ in pairs} & {asked for _, asked in pairs}
        kept = [pair for pair in pairs if pair[0] in inner and pair[1] in inner]
        if len(kept) == len(pairs):
            break
        pairs = kept
    graph: dict[Node, list[Node]] = {}
    for held, asked in pairs:
        graph.setdefault(held, []).append(asked)
    return graph


def _circles(graph: dict[Node, list[Node]]) -> Iterator[tuple[Node, ...]]:
    """Walk all simple circles, short ones first; each starts at the lock that was seen first."""
    rank = {lock: number for number, lock in enumerate(graph)}
    steps = 0
    paths: list[tuple[Node, ...]] = [(lock,) for lock in graph]
    while paths:
        longer = []
        for path in paths:
            for lock in graph[path[-1]]:
                steps += 1
                if steps > _STEPS:
                    return
                if lock == path[0]:
                    yield path
                elif rank[lock] > rank[path[0]] and lock not in path and len(path) < LONGEST:
                    longer.append((*path, lock))
        paths = longer


def _harmful(kinds: list[list[Step]]) -> tuple[Step, ...] | None:
    """Choose an edge for each step so that all can happen at once, in many threads if possible."""
    chances = [
        mix
        for mix in islice(product(*kinds), _MIXES)
        if not any(one.gates & other.gates for one, other in combinations(mix, 2))
    ]
    return max(chances, key=lambda mix: len({edge.thread for edge in mix}), default=None)


def readable(edge: Edge, trial: str = "") -> OrderEdge:
    """Look up the places of an edge."""
    return OrderEdge(
        held=edge.held.name,
        held_class=edge.held.class_,
        held_at=frames_of(edge.held_at),
        asked=edge.asked.name,
        asked_class=edge.asked.class_,
        asked_at=frames_of(edge.asked_at),
        thread=edge.thread.name,
        gates=tuple(sorted(lock.name for lock in edge.gates)),
        trial=trial,
        at_ns=edge.at_ns,
    )
