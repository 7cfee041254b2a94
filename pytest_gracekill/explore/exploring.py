"""From what a test asks for to an exploration: what the fixture calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pytest_gracekill.alone import alone
from pytest_gracekill.circumstances import with_schedule
from pytest_gracekill.counted import counted
from pytest_gracekill.errors import UsageError
from pytest_gracekill.explore import token as tokens
from pytest_gracekill.explore.findings import Failure, Findings
from pytest_gracekill.explore.named import NamedLocks, read_named
from pytest_gracekill.explore.reachable import check_reachable
from pytest_gracekill.explore.run import START_NS, Step
from pytest_gracekill.explore.search import Search
from pytest_gracekill.routine.adapt import name_of
from pytest_gracekill.settings import is_seconds
from pytest_gracekill.witness.cut_off import withdraw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_gracekill.explore.findings import Status
    from pytest_gracekill.explore.run import Clock, Run
    from pytest_gracekill.explore.scenario import Scenario
    from pytest_gracekill.explore.search import Coverage, Found, Result
    from pytest_gracekill.explore.token import Token
    from pytest_gracekill.judgement import Judgement
    from pytest_gracekill.witness.places import Named

CLOCKS: dict[str, tuple[Clock, ...]] = {
    "jump": ("jump",),
    "explore": ("explore",),
    "both": ("jump", "explore"),
}


#: What a replay does not say.
_ONLY_ONE = (
    "only the schedule of the token was run, and it does not fail now: run all schedules, without"
    " the token, to see that none does"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far to look: as in ``gracekill.explore``. ``seconds`` are of CPU time.

    :raises UsageError: a value is not right.
    """

    clock: str = "both"
    preemptions: int | None = 2
    seconds: float = 10.0
    seed: int = 0
    all_failures: bool = False

    def __post_init__(self) -> None:
        if self.clock not in CLOCKS:
            raise UsageError(
                f"clock={self.clock!r}: 'jump' (time passes when nobody can go on), 'explore' (it"
                " may pass at any step) or 'both' is needed"
            )
        bound, seconds = self.preemptions, self.seconds
        if bound is not None and not (_is_whole(bound) and bound >= 0):
            raise UsageError(f"preemptions={bound!r}: a number, 0 or more, or None is needed")
        if not is_seconds(seconds) or not seconds:
            raise UsageError(f"seconds={seconds!r}: a finite time above 0 is needed")
        if not _is_whole(self.seed):
            raise UsageError(f"seed={self.seed!r}: a whole number is needed")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Where an exploration is asked for: by which test, as which of its explorations.

    ``replay`` is a token, and where it came from; ``left`` the seconds of real time that the test
    has.
    """

    test: str = ""
    number: int = 1
    replay: Token | None = None
    source: str = "the call"
    left: float | None = None
    on_progress: Callable[[Coverage, int, float], None] | None = None


def explore(
    make: Callable[[Callable[[Run], None]], Scenario],
    work: Sequence[Callable[..., object]],
    limits: Limits,
    asked: Asked,
    locks: Sequence[Named] = (),
) -> Findings:
    """Explore a scenario, or replay one schedule of it.

    :param make: makes the scenario; is given what prepares the named locks in each schedule.
    :param work: the code under test, which is looked through for locks that were not named.
    :raises UsageError: a lock was not named, a token does not fit, or a trial runs already.
    :raises StartError: a thread blocks for real.
    """
    __tracebackhide__ = True
    places = read_named(locks, "the call")
    named = NamedLocks(places, check_reachable(work, places, "the call"))
    scenario = make(named.prepare)
    search = Search(
        scenario,
        preemptions=limits.preemptions,
        seconds=limits.seconds,
        wall=asked.left,
        seed=limits.seed,
        everything=limits.all_failures,
        on_progress=asked.on_progress,
    )
    names = ", ".join(name_of(function) for function in work)
    withdraw()  # the threads of tasks are profiled
    with alone(f"the exploration of {names}"), named.simulated():
        if asked.replay is not None and asked.replay.number == asked.number:
            return _replayed(search, scenario, asked.replay, asked)
        result = search.explore(CLOCKS[limits.clock])
        failures = tuple(
            failure
            for found in result.found
            if (failure := _failure(search, scenario, found, asked, result)) is not None
        )
    return _exploration(result, scenario, failures, asked)


def _exploration(
    result: Result,
    scenario: Scenario,
    failures: tuple[Failure, ...],
    asked: Asked,
) -> Findings:
    limit = "; ".join(
        dict.fromkeys(f"{c.limit} (clock {c.clock})" for c in result.coverage if c.limit)
    )
    if not limit and not failures and (unjudged := scenario.unjudged()):
        limit = f"not judged in any schedule: {unjudged}"
    if limit and not failures and (raised := scenario.raised()):
        limit = f"{limit}; {raised}"
    status = "failed" if failures else "incomplete" if limit else "exhausted"
    return Findings(
        status=cast("Status", status),
        schedules=result.schedules,
        scope=_scope(result, scenario),
        limit=limit,
        failures=failures,
        test=asked.test,
    )


def _scope(result: Result, scenario: Scenario) -> str:
    told = []
    for covered in result.coverage:
        if result.found and not covered.schedules:
            continue  # it has failed before
        if covered.complete:
            matters = "" if covered.in_full else " that matters"
            what = f"every order of operations{matters} ({counted(covered.schedules, 'schedule')})"
        elif covered.bound >= 0:
            what = (
                f"every schedule with at most {counted(covered.bound, 'preemption')}"
                f" ({counted(covered.schedules, 'schedule')} in all)"
            )
        else:
            what = counted(covered.schedules, "schedule")
        told.append(f"clock {covered.clock}: {what}")
    return f"{scenario.scope}; {'; '.join(told)}"


def _failure(
    search: Search, scenario: Scenario, found: Found, asked: Asked, result: Result
) -> Failure | None:
    """The failure once more, recorded; None when it does not come again."""
    report, run = search.replay(found.clock, found.choices)
    if scenario.words(run) != found.words:
        words = ", ".join(word for _, word in found.words)
        for covered in result.coverage:
            if covered.clock == found.clock:
                covered.limit = (
                    f"the program is not deterministic: a schedule failed ({words}), and did not"
                    " when it was run again with the same choices"
                )
        return None
    token = tokens.Token(
        number=asked.number,
        clock=found.clock,
        fingerprint=_fingerprint(scenario, asked),
        choices=found.choices,
    )
    return _told(report, run, token)


def _fingerprint(scenario: Scenario, asked: Asked) -> str:
    return tokens.fingerprint(f"{asked.test}\n{scenario.identity}")


def _told(report: Judgement, run: Run, token: Token) -> Failure:
    """A recorded schedule with its steps and its token."""
    steps = tuple(_steps(run))
    return Failure(
        judgement=with_schedule(report, steps, {"clock": token.clock, "replay": str(token)}),
        steps=steps,
        token=str(token),
        clock=token.clock,
        origin_ns=START_NS,
    )


def _replayed(search: Search, scenario: Scenario, token: Token, asked: Asked) -> Findings:
    fingerprint = _fingerprint(scenario, asked)
    if token.fingerprint != fingerprint:
        raise UsageError(
            f"the token {token} is of another scenario: its fingerprint is {token.fingerprint}, and"
            f" that of {scenario.scope} is {fingerprint}; the same routine or bodies, contenders"
            " and knobs, in the same test, are needed",
            source=asked.source,
        )
    report, run = search.replay(token.clock, token.choices)
    failed = not report.ok
    return Findings(
        status="failed" if failed else "incomplete",
        schedules=1,
        scope=f"{scenario.scope}; clock {token.clock}: the schedule of the token",
        limit="" if failed else _ONLY_ONE,
        failures=(_told(report, run, token),) if failed else (),
        test=asked.test,
        replayed=True,
    )


def _steps(run: Run) -> Iterator[Step]:
    """The schedule, and at its end whoever could go no further."""
    yield from run.steps
    for index, standing in sorted(run.standing.items()):
        task = run.tasks[index]
        if standing.lock is not None:
            owner = "nobody" if standing.owner is None else standing.owner.name
            text = f"waits for {standing.lock} (held by {owner}), and goes no further"
        else:
            text = f"{standing.kind} {standing.what}".strip() + ", and goes no further"
        site = standing.stack[0] if standing.stack else None
        yield Step(at_ns=run.now, actor=task.name, text=text, site=site)
