"""The table of traced locks as they are now: who has which, since when, taken where, who waits.

For the moment at which a run is about to be ended by force, with no report: pytest-timeout prints
the stacks of all threads, and this table becomes part of it. Nothing here takes a lock, since
whoever holds one may be what hangs.

pytest-timeout has no hook for the moment at which it fires: both of its methods call its function
`dump_stacks`, which is replaced for the length of a trial. Where it has no such function, and where
another plugin sets the timer in its place, the table is not printed.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pytest_gracekill.witness.sites import frames_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.witness.locks import LockTracer
    from pytest_gracekill.witness.sites import Site

_TITLE = "gracekill: the traced locks of the trial that runs"


@runtime_checkable
class Terminal(Protocol):
    """What pytest-timeout writes to."""

    def write(self, text: str) -> object: ...


def table(tracer: LockTracer) -> list[str]:
    """Lines for people: every lock that is held or wanted, every condition that is waited on."""
    lines: list[str] = []
    known = list(tracer.known)
    locks = list(tracer.locks)
    free = 0
    for lock in locks:
        hold = lock.latest_hold
        waiting = [
            (state, wait)
            for state in known
            if (wait := state.waiting) is not None and wait.lock is lock
        ]
        if hold is None and not waiting:
            free += not lock.locked()
            if lock.locked():
                lines.append(f"{lock.name}: held, by a name that is not traced")
            continue
        if hold is None:
            lines.append(f"{lock.name}: nobody is known to hold it")
        else:
            how = "taken last by" if lock.is_semaphore else "held by"
            lines.append(f"{lock.name}: {how} {hold[0].name} since {_stamp(tracer, hold[1])}")
            lines += _at("taken at", hold[2])
        for state, wait in waiting:
            timed = ", with a timeout" if wait.timed else ""
            since = _stamp(tracer, wait.since_ns)
            lines.append(f"  waited for by {state.name} since {since}{timed}")
            lines += _at("waiting at", wait.site)
    for state in known:
        awaiting = state.awaiting
        if awaiting is not None:
            since = _stamp(tracer, awaiting.since_ns)
            lines.append(
                f"{awaiting.condition}: a condition, waited on by {state.name} since {since}"
            )
            lines += _at("waiting at", awaiting.site)
    if free:
        lines.append(f"{free} of {len(locks)} locks are free")
    return lines


def _at(what: str, site: Site) -> list[str]:
    return [f"  {what}", *(f"    {frame}" for frame in frames_of(site))] if site else []


def _stamp(tracer: LockTracer, at_ns: int) -> str:
    return f"t{(at_ns - tracer.history.origin_ns) / 1e9:+.3f}"


@contextmanager
def printed_at_timeout(tracer: LockTracer) -> Iterator[None]:
    """Have the table printed before the stacks when pytest-timeout fires meanwhile."""
    module = sys.modules.get("pytest_timeout")
    original: Callable[..., object] | None = getattr(module, "dump_stacks", None)
    if module is None or original is None:
        yield
        return

    def dump(*args: object, **kwargs: object) -> object:
        # it was handed a terminal only from some version on
        terminal = args[0] if args and isinstance(args[0], Terminal) else sys.stderr
        lines = [f"~~~ {_TITLE} ~~~", *table(tracer)]
        terminal.write("".join(f"{line}\n" for line in lines))
        return original(*args, **kwargs)

    vars(module)["dump_stacks"] = dump
    try:
        yield
    finally:
        if vars(module).get("dump_stacks") is dump:
            vars(module)["dump_stacks"] = original
