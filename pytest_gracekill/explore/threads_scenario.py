"""Any code as a scenario: a state, a body for each thread, and what has to be true at the end."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, cast

from pytest_gracekill.child.disk import Audit
from pytest_gracekill.counted import counted
from pytest_gracekill.explore.locks import Lock
from pytest_gracekill.explore.reachable import check_made
from pytest_gracekill.explore.run import START_NS, as_ns
from pytest_gracekill.explore.stuck import deadlock_in, raise_not_simulated
from pytest_gracekill.judgement import Judgement
from pytest_gracekill.legible import error_text
from pytest_gracekill.passing import passes_through
from pytest_gracekill.report import VERDICTS, Call, Verdict
from pytest_gracekill.routine.adapt import name_of
from pytest_gracekill.verdicts.claims import line_of_mistake
from pytest_gracekill.witness.history import History
from pytest_gracekill.witness.sites import Frame, frames_of_traceback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_gracekill.explore.run import Run
    from pytest_gracekill.explore.scenario import Words
    from pytest_gracekill.explore.tasks import Task
    from pytest_gracekill.witness.dead_end import AnyDeadlock
    from pytest_gracekill.witness.history import RawHeld, RawWait

#: Virtual seconds after which a program that still sleeps is taken for one that never ends.
LATEST = 3_600.0


class ThreadsScenario:
    """``setup()`` makes a state, each ``body(state)`` is a thread, ``check(state)`` comes last."""

    def __init__(
        self,
        setup: Callable[[], object],
        bodies: Sequence[Callable[[object], object]],
        check: Callable[[object], object] | None,
        prepare_named: Callable[[Run], None],
    ) -> None:
        self._setup = setup
        self._bodies = bodies
        self._check = check
        self._prepare_named = prepare_named
        self._state: object = None
        names = [name_of(body) for body in bodies]
        self._names = [
            f"{name}-{names[: place + 1].count(name)}" if names.count(name) > 1 else name
            for place, name in enumerate(names)
        ]
        self.scope = f"{counted(len(bodies), 'thread')}: {', '.join(self._names)}"
        self.identity = "\n".join((name_of(setup), *self._names))
        self._checked: BaseException | None = None
        self._words: Words | None = None

    def prepare(self, run: Run) -> None:
        run.latest = START_NS + as_ns(LATEST)
        self._checked = self._words = None
        self._prepare_named(run)
        state = self._state = self._setup()
        check_made(state, "setup")
        for name, lock in _locks_of(state):
            if lock.unnamed:
                lock.name = name
        for name, body in zip(self._names, self._bodies, strict=True):
            run.add(name, lambda body=body: body(state))  # type: ignore[misc] # bound now

    def words(self, run: Run) -> Words:
        if self._words is None:
            # once a schedule: the check may change the state, and needs the simulation
            self._words = self._judge(run)
        return self._words

    def _judge(self, run: Run) -> Words:
        raise_not_simulated(run.tasks)
        if run.outcome == "stuck":
            return (("deadlock", "DEADLOCK"),)
        if run.outcome == "late":
            return (("promptness", "HUNG"),)
        if any(_raised(task) is not None for task in run.tasks):
            return (("outcome", "RAISED"),)
        if self._check is not None and run.outcome == "ended":
            try:
                run.alone(self._call_check)
            except BaseException as error:
                if passes_through(error) or isinstance(error, SystemExit):
                    raise
                self._checked = error  # whatever it is, pytest.fail() included
                return (("outcome", "RAISED"),)
        return ()

    def _call_check(self) -> None:
        assert self._check is not None
        if self._check(self._state) is False:
            raise AssertionError(f"{name_of(self._check)} returned False")

    def raised(self) -> str:
        return ""  # that is a failure

    def unjudged(self) -> str:
        return ""

    def report(self, run: Run) -> Judgement:
        found = deadlock_in(run)
        words = self.words(run)
        verdicts = {"deadlock": _deadlock(run, found)}
        if words and words[0][0] != "deadlock":
            verdicts[words[0][0]] = self._broken(run, *words[0])
        elif not words:
            told = "" if self._check is None else "; the check holds"
            verdicts["outcome"] = Verdict(
                name="outcome", status="ok", word="ok", evidence=f"every thread ended{told}"
            )
        history = History()
        history.origin_ns = START_NS
        history.raw_holds.extend(cast("list[RawHeld]", run.holds))
        history.raw_waits.extend(cast("list[RawWait]", run.waits))
        for step in run.steps:
            site = None if step.site is None else str(step.site)
            history.record("step", step.actor, step.at_ns, text=step.text, site=site)
        return Judgement(
            verdicts=verdicts,
            not_judged={
                name: "no kill routine takes part" for name in VERDICTS if name not in verdicts
            },
            disk=Audit(),
            calls=tuple(_call(run, task) for task in run.tasks[: len(self._bodies)]),
            history=history,
        )

    def _broken(self, run: Run, name: str, word: str) -> Verdict:
        if word == "HUNG":
            last = run.last_holder
            who = "a thread" if last is None else f"{last.name} ({last.kind} {last.what})"
            return Verdict(
                name=name,
                status="broken",
                word=word,
                evidence=f"after {LATEST:.0f} s of virtual time {who} still waits and goes on",
                advice="give every wait a deadline",
            )
        task = next((task for task in run.tasks if _raised(task) is not None), None)
        who = "the check" if task is None else task.name
        error = self._checked if task is None else task.error
        assert error is not None
        frames: tuple[Frame, ...] = frames_of_traceback(error)
        at = "" if task is None or task.raised_ns is None else f" at {_stamp(task.raised_ns)}"
        return Verdict(
            name=name,
            status="broken",
            word=word,
            evidence=f"{who} raised {error_text(error)}{at}",
            detail=tuple(f"  {frame}" for frame in frames),
        )


def _deadlock(run: Run, found: AnyDeadlock | None) -> Verdict:
    if run.outcome != "stuck":
        evidence = f"{len(run.locks)} locks, {run.acquisitions} acquisitions"
        return Verdict(name="deadlock", status="ok", word="ok", evidence=evidence)
    if found is None:
        waits = [
            f"{task.name} {run.standing[task.index].kind} {run.standing[task.index].what}".strip()
            for task in run.left
        ]
        return Verdict(
            name="deadlock",
            status="broken",
            word="DEADLOCK",
            evidence=f"nobody can go on: {'; '.join(waits)}",
        )
    return Verdict(
        name="deadlock",
        status="broken",
        word="DEADLOCK",
        evidence=str(found),
        detail=tuple(found.describe().splitlines()),
        advice=found.advice,
    )


def _call(run: Run, task: Task) -> Call:
    ended = task not in run.left
    until = task.raised_ns or run.now
    return Call(
        success=_raised(task) is None if ended else None,
        result=task.result,
        error=_raised(task),
        elapsed=(until - START_NS) / 1e9,
        raised_at=line_of_mistake(_raised(task)),
    )


def _raised(task: Task) -> BaseException | None:
    """What a thread has raised; by SystemExit it ends, as threading has it."""
    return None if isinstance(task.error, SystemExit) else task.error


def _stamp(at_ns: int) -> str:
    return f"t{(at_ns - START_NS) / 1e9:+.3f}"


def _locks_of(state: object) -> Iterator[tuple[str, Lock]]:
    """The locks of a state by the names that it has for them."""
    if isinstance(state, dict):
        named = state.items()
    elif isinstance(state, list | tuple) and not hasattr(state, "_fields"):
        named = ((f"state[{place}]", value) for place, value in enumerate(state))  # type: ignore[assignment]
    elif hasattr(state, "_asdict"):
        named = state._asdict().items()
    else:
        named = getattr(state, "__dict__", {}).items()
    for name, value in named:
        if isinstance(value, Lock):
            yield str(name), value
        elif isinstance(inner := getattr(value, "_lock", None), Lock):
            yield f"{name}'s lock", inner


def takes_a_state(body: Callable[..., object]) -> bool:
    """Whether it can be called with one argument."""
    try:
        inspect.signature(body).bind(None)
    except TypeError:
        return False
    except ValueError:  # one in C that does not tell
        return True
    return True
