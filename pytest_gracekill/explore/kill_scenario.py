"""A kill routine, its callers and contenders, and a simulated VM: the trial as a scenario.

The verdicts are those of a trial. Under the clock *explore* a thread may stand for as long as
another one's timer takes although nothing holds it up: how long something took is no finding there,
and neither is a stall.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.counted import counted
from pytest_gracekill.explore.judging import judged, signature
from pytest_gracekill.explore.run import as_ns
from pytest_gracekill.explore.stage import Stage
from pytest_gracekill.explore.stuck import raise_not_simulated
from pytest_gracekill.legible import error_text
from pytest_gracekill.promises import budget_of
from pytest_gracekill.routine.adapt import name_of
from pytest_gracekill.witness.sites import line_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gracekill.explore.run import Run
    from pytest_gracekill.explore.scenario import Words
    from pytest_gracekill.judgement import Judgement
    from pytest_gracekill.trial import Plan


class KillScenario:
    """The same question as a trial's, over schedules."""

    def __init__(
        self, plan: Plan, contenders: tuple[str, ...], prepare_named: Callable[[Run], None]
    ) -> None:
        self._plan = plan
        self._contenders = contenders
        self._prepare_named = prepare_named
        self._known: dict[object, Words] = {}
        self._seen_ok: set[str] = set()
        self._seen_unknown: dict[str, str] = {}
        # what calls of the routine have raised, by its text
        self._raised: dict[str, BaseException] = {}
        self._stage: Stage | None = None
        self.budget = budget_of(plan)
        beside = (*contenders, *map(name_of, plan.contend))
        self.scope = f"{plan.routine.name} called by {counted(plan.callers, 'thread')}"
        if beside:
            self.scope += f" beside {', '.join(beside)}, each once"
        parts = [
            plan.routine.name,
            plan.routine.kind,
            *contenders,
            str(plan.knobs),
            str(int(plan.flags)),
            str(plan.policy),
            plan.lookup,
            str(plan.callers),
            *(name for _, name in plan.locks),
            *map(name_of, plan.contend),
        ]
        self.identity = "\n".join(parts)

    def prepare(self, run: Run) -> None:
        run.latest = run.now + as_ns(self.budget)
        self._stage = Stage(run, self._plan, self._contenders)
        self._prepare_named(run)
        self._stage.people()

    def words(self, run: Run) -> Words:
        stage = self._stage
        assert stage is not None
        assert stage.run is run
        raise_not_simulated(stage.run.tasks, [called.error for called in stage.calls])
        _let_end(stage)
        key = signature(stage)
        for called in stage.calls:
            if called.error is not None:
                self._raised.setdefault(error_text(called.error), called.error)
        known = self._known.get(key)
        if known is None:
            report = judged(self._plan, stage, self.budget)
            for name, verdict in report.verdicts.items():
                if verdict.status == "unknown":
                    self._seen_unknown.setdefault(name, verdict.evidence)
                else:
                    self._seen_ok.add(name)
            known = self._known[key] = tuple(
                (name, word)
                for name, verdict in report.verdicts.items()
                if verdict.status == "broken"
                for word in (verdict.word, *(also.split(" (")[0] for also in verdict.also))
            )
        return known

    def unjudged(self) -> str:
        return "; ".join(
            f"{name}: {why}"
            for name, why in self._seen_unknown.items()
            if name not in self._seen_ok
        )

    def raised(self) -> str:
        return "; ".join(
            f"the routine raised {text}{line_of(error)}" for text, error in self._raised.items()
        )

    def report(self, run: Run) -> Judgement:
        stage = self._stage
        assert stage is not None
        assert stage.run is run
        _let_end(stage)
        return judged(self._plan, stage, self.budget)


def _let_end(stage: Stage) -> None:
    """Give a VM that was asked to stop the time that it needs, as a trial does."""
    vm, run = stage.vm, stage.run
    if vm.ended_at is not None and not vm.ended() and run.outcome != "stuck":
        run.now = vm.ended_at
