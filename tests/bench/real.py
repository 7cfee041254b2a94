"""A trial on a real QEMU, from before it is started until nothing of it is left, without what the
trial itself has to wait for: the flush (0.3 s), or the grace (0.2 s) after which SIGKILL comes.
Image, disk, process, 64 acknowledged writes, eight contenders, verdicts and the reading back are in
it. "a trial on the fake" is the same, measured in turn, and is no promise.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pytest_gracekill import KillFlags, KillPolicy, lab, process_kill, trial
from pytest_gracekill.child.handle import spawn
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.child.real_qemu import RealKnobs
from pytest_gracekill.child.real_qemu import spawn as spawn_real
from pytest_gracekill.settings import Value, from_outside

from .figure import Figure, Promise

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gracekill.child.handle import FakeQemu

FLUSH, GRACE = 0.3, 0.2
LIMIT = Promise(limit=0.5)


def measure(rounds: int, folder: Path) -> list[Figure]:
    """Every kind of trial in turn."""
    elapsed: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        elapsed.setdefault(name, []).append(seconds)

    for number in range(rounds):
        where = folder / str(number)
        note("the flush is waited for", _on_real(RealKnobs(flush_time=FLUSH), where / "1"))
        note("SIGKILL, half is lost", _on_real(RealKnobs(flush_time=2 * GRACE), where / "2", GRACE))
        note("SIGKILL at the gate", _on_real(RealKnobs(gate="held"), where / "3", GRACE))
        daemon = RealKnobs(flush_time=FLUSH, program="storage-daemon")
        note("a storage daemon", _on_real(daemon, where / "4"))
        note("a trial on the fake", _on_fake(where / "5"))
    return [
        Figure(
            name=name,
            samples=tuple(samples),
            unit="ms",
            scale=1e3,
            promise=None if "fake" in name else LIMIT,
        )
        for name, samples in elapsed.items()
    ]


def _on_real(knobs: RealKnobs, where: Path, grace: float | None = None) -> float:
    began = time.perf_counter()
    vm = spawn_real(knobs, where)
    return _judge(vm, began, grace)


def _on_fake(where: Path) -> float:
    began = time.perf_counter()
    return _judge(spawn(Knobs(flush_time=FLUSH, topology="reaped"), where), began, None)


def _judge(vm: FakeQemu, began: float, grace: float | None) -> float:
    """A trial; the seconds that it took beside its wait."""
    wait = FLUSH if grace is None else grace
    policy = KillPolicy() if grace is None else KillPolicy(grace=grace)
    try:
        given = {"vm": vm, "flags": KillFlags.FORCE, "policy": policy}
        values = from_outside({}, {}, {}) | {
            name: Value(value=value, source="bench") for name, value in given.items()
        }
        report = lab.run(
            trial.plan(
                process_kill, values, source="bench", directory=lambda: vm.dir, deadline=None
            )
        )
        report.check("outcome")
        assert bool(report.disk.lost) == (grace is not None), report
    finally:
        vm.close()
    return time.perf_counter() - began - wait
