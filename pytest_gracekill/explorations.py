"""``gracekill.explore`` and ``gracekill.explore_threads``: what a test asks for, checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pytest_gracekill import clock, settings, trial
from pytest_gracekill.driving import ACTS
from pytest_gracekill.errors import UsageError
from pytest_gracekill.explore import exploring, token
from pytest_gracekill.explore.kill_scenario import KillScenario
from pytest_gracekill.explore.threads_scenario import ThreadsScenario, takes_a_state
from pytest_gracekill.explore.vm import check as check_knobs
from pytest_gracekill.routine.adapt import adapt, form_of, name_of
from pytest_gracekill.settings import KINDS, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_gracekill.explore.findings import Findings
    from pytest_gracekill.explore.run import Run
    from pytest_gracekill.explore.search import Coverage
    from pytest_gracekill.witness.places import Named

#: What takes part beside the routine: what contenders do, and the acts of a trial as threads.
EVERYBODY = tuple(dict.fromkeys((*KINDS, *ACTS)))
#: What concerns the search, and not the trial.
_LIMITS = tuple(field.name for field in dataclasses.fields(exploring.Limits))
_EXPLORED_KINDS = ("driver", "pid", "popen", "process")
#: Seconds of a test that are kept for its report and its end.
_KEPT = 1.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """The test that asks: its id, which of its explorations this is, and what the session says.

    ``replay`` is the token of ``--gracekill-replay``; ``deadline`` when pytest-timeout ends it, in
    CLOCK_MONOTONIC seconds.
    """

    test: str
    number: int
    replay: Value
    deadline: float | None
    on_progress: Callable[[Coverage, int, float], None] | None = None

    def asked(self) -> exploring.Asked:
        """The same as the search takes it."""
        left = None
        if self.deadline is not None:
            left = max((self.deadline - clock.monotonic()) * 0.8 - _KEPT, 0.1)
        value = self.replay.value
        return exploring.Asked(
            test=self.test,
            number=self.number,
            replay=None if value is None else token.parse(str(value), self.replay.source),
            source=self.replay.source,
            left=left,
            on_progress=self.on_progress,
        )


def explore(asking: Asking, routine: object, source: str, values: Mapping[str, Value]) -> Findings:
    """Explore a kill routine.

    :raises UsageError: a value cannot be used, or asks for what is not simulated.
    """
    __tracebackhide__ = True
    limits = _limits(values)
    adapted = adapt(routine, source)
    if adapted.kind not in _EXPLORED_KINDS or adapted.form != "function":
        raise UsageError(
            f"the routine {adapted} cannot be explored: a plain function is needed whose first"
            f" parameter is one of {', '.join(_EXPLORED_KINDS)}; use gracekill() for this one",
            source=source,
        )
    contenders = _contenders(values, has_driver=adapted.kind == "driver")
    locks = cast("Sequence[Named]", values["locks"].value if "locks" in values else ())
    for name in ("vm", "at"):
        if name in values and values[name].value:
            raise UsageError(
                f"{name}={values[name].value!r}: an exploration simulates its VM, and comes to"
                " every point by itself",
                source=values[name].source,
            )
    rest = {
        name: value
        for name, value in values.items()
        if name not in (*_LIMITS, "contenders", "locks", "vm", "at")
    }
    plan = trial.plan(
        routine,
        {**rest, "contenders": Value(value=(), source="the call")},
        source=source,
        directory=Path,
        deadline=None,
    )
    check_knobs(plan.knobs, {name: value.source for name, value in values.items()})

    def make(prepare_named: Callable[[Run], None]) -> KillScenario:
        return KillScenario(plan, contenders, prepare_named)

    work = [cast("Callable[..., object]", routine), *plan.contend]
    return exploring.explore(make, work, limits, asking.asked(), locks)


def explore_threads(
    asking: Asking,
    setup: Callable[[], object],
    bodies: Sequence[Callable[[object], object]],
    check_: Callable[[object], object] | None,
    values: Mapping[str, object],
) -> Findings:
    """Explore any threads.

    :raises UsageError: a value cannot be used.
    """
    __tracebackhide__ = True
    known = {*_LIMITS, "locks"}
    for name in values:
        if name not in known:
            raise settings.unknown(name, {*known, "check"}, "the call")
    limits = _limits({n: Value(value=v, source="the call") for n, v in values.items()})
    if not callable(setup):
        raise UsageError(f"setup={setup!r}: a callable without parameters is needed")
    if not bodies:
        raise UsageError("explore_threads() has no body: one callable (state) per thread is needed")
    checks = () if check_ is None else (check_,)
    for function in (setup, *bodies, *checks):
        if callable(function) and form_of(function) != "function":
            raise UsageError(
                f"{name_of(function)} is a generator or a coroutine function: nothing of it would"
                " run; a plain function is needed"
            )
    for body in (*bodies, *checks):
        if not callable(body) or not takes_a_state(body):
            shown = name_of(body) if callable(body) else repr(body)
            raise UsageError(
                f"{shown} cannot be called with the state: a callable (state) is needed"
            )
    locks = cast("Sequence[Named]", values.get("locks", ()))

    def make(prepare_named: Callable[[Run], None]) -> ThreadsScenario:
        return ThreadsScenario(setup, bodies, check_, prepare_named)

    work = [setup, *bodies, *checks]
    return exploring.explore(make, work, limits, asking.asked(), locks)


def _limits(values: Mapping[str, Value]) -> exploring.Limits:
    """How far to look; ``seed`` is that of the search: a simulated disk has none."""
    given = {name: values[name].value for name in _LIMITS if name in values}
    try:
        return exploring.Limits(**given)  # type: ignore[arg-type]  # checked there
    except UsageError as error:
        name = next((name for name in given if error.what.startswith(f"{name}=")), None)
        source = "the call" if name is None else values[name].source
        raise UsageError(error.what, source=source) from None


def _contenders(values: Mapping[str, Value], *, has_driver: bool) -> tuple[str, ...]:
    value = values.get("contenders")
    if value is None or not settings.is_own(value):
        return ("same", "other") if has_driver else ()
    chosen = value.value
    kinds = (chosen,) if isinstance(chosen, str) else chosen
    if isinstance(kinds, int) and not isinstance(kinds, bool) and kinds >= 0:
        kinds = trial.kinds_of(kinds)
    if not isinstance(kinds, list | tuple) or not all(kind in EVERYBODY for kind in kinds):
        raise UsageError(
            f"contenders={chosen!r}: a number, or kinds out of {', '.join(EVERYBODY)}",
            source=value.source,
        )
    if kinds and not has_driver:
        raise UsageError(
            f"contenders={chosen!r}: the routine takes no driver; name other threads by contend=",
            source=value.source,
        )
    return tuple(kinds)
