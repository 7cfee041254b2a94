"""Sleep sets leave out schedules, and no failure: held against full depth-first search."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gracekill import KillFlags, KillPolicy, process_kill
from pytest_gracekill.explore import exploring
from pytest_gracekill.explore.named import NamedLocks, read_named
from pytest_gracekill.explore.run import Clock, Run
from pytest_gracekill.explore.simulating import on_one_core, simulated, without_garbage
from pytest_gracekill.explore.sleep_sets import SleepSets
from pytest_gracekill.explore.workers import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gracekill.explore.exploring import Asked, Limits
    from pytest_gracekill.explore.scenario import Scenario, Words
    from pytest_gracekill.fixtures import Judge
    from pytest_gracekill.witness.places import Named

HERE = Path(__file__).parent
#: Full depth-first search of what has more schedules is not waited for.
SCHEDULES = 1_500

#: Routines of this folder, under a clock where the full search of them finishes.
FLAWS: tuple[tuple[str, Clock], ...] = (
    ("lock_order_retake", "jump"),
    ("reference_only_inside", "jump"),
    ("unlock_without_ref", "jump"),
    ("no_recheck", "jump"),
    ("guard_window_early", "jump"),
    ("guard_window_late", "jump"),
    ("domain_lock_held_over_wait", "jump"),
)
SEEDS: tuple[tuple[Clock, dict[str, Any]], ...] = (
    ("jump", {"policy": KillPolicy(drop="driver"), "contenders": "same", "flush_time": 3.0}),
    ("jump", {"policy": KillPolicy(drop="both"), "contenders": "same"}),
    ("jump", {"policy": KillPolicy(drop="both", wait="poll", poll=1.0), "contenders": "eof"}),
    ("explore", {"policy": KillPolicy(drop="none"), "contenders": "other"}),
    ("explore", {"policy": KillPolicy(drop="both", wait="poll", poll=4.0), "contenders": ()}),
)


def distinct(
    scenario: Scenario, clock: Clock, at_most: int | None, *, reduce: bool
) -> tuple[set[Words], int] | None:
    """The failures of a scenario, and in how many schedules; None: there are more of these."""
    strategy = SleepSets(reduce=reduce)
    words: set[Words] = set()
    outcomes: Counter[str | None] = Counter()
    with ExitStack() as stack:
        for context in (without_garbage(), on_one_core(), simulated()):
            stack.enter_context(context)
        pool = Pool()
        stack.callback(pool.close, 30.0)
        while strategy.begin():
            if at_most is not None and outcomes.total() >= at_most:
                return None
            run = Run(pool, strategy, clock=clock)
            run.alone(lambda run=run: scenario.prepare(run))  # type: ignore[misc] # bound now
            run.go()
            strategy.finish(run)
            assert run.diverged is None, run.diverged
            outcomes[run.outcome] += 1
            if run.outcome != "pruned":
                words.add(scenario.words(run))
    return words, outcomes.total() - outcomes["pruned"]


class Compared:
    """What `gracekill.explore` has made, searched both ways instead.

    To the plugin it is an exploration that is ok.
    """

    ok = True
    failure = None

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.full: tuple[set[Words], int] | None = None
        self.reduced: tuple[set[Words], int] | None = None

    def explore(
        self,
        make: Callable[[Callable[[Run], None]], Scenario],
        _work: object,
        _limits: Limits,
        _asked: Asked,
        locks: list[Named],
    ) -> Compared:
        named = NamedLocks(read_named(locks, "the test"))
        with named.simulated():
            scenario = make(named.prepare)
            self.reduced = distinct(scenario, self.clock, SCHEDULES, reduce=True)
            self.full = distinct(scenario, self.clock, SCHEDULES, reduce=False)
        return self

    def agree(self) -> None:
        assert self.full is not None, f"more than {SCHEDULES} schedules: it shows nothing"
        assert self.reduced is not None
        (full, schedules), (words, fewer) = self.full, self.reduced
        assert words == full
        assert fewer < schedules


def compared(
    gracekill: Judge, monkeypatch: pytest.MonkeyPatch, clock: Clock, routine: Any, **values: Any
) -> Compared:
    both = Compared(clock)
    with monkeypatch.context() as patch:
        patch.setattr(exploring, "explore", both.explore)
        gracekill.explore(routine, **values)
    return both


@pytest.mark.parametrize(("flaw", "clock"), FLAWS)
def test_of_a_wrong_routine(
    flaw: str, clock: Clock, gracekill: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_from_file_location(f"slept_{flaw}", HERE / f"flaw_{flaw}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    locks = [(module, name) for name in getattr(module, "LOCKS", ())]
    both = compared(gracekill, monkeypatch, clock, module.destroy, locks=locks, **module.EXPLORE)
    both.agree()


@pytest.mark.parametrize(("clock", "values"), SEEDS, ids=str)
def test_of_the_seeds_routine(
    clock: Clock, values: dict[str, Any], gracekill: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = compared(gracekill, monkeypatch, clock, process_kill, flags=KillFlags.FORCE, **values)
    both.agree()
