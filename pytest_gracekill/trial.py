"""What a user asked for, checked and made into a plan before any process is started."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pytest_gracekill import settings
from pytest_gracekill.arguments import CHECKS, DEFAULTS
from pytest_gracekill.child.handle import FakeQemu
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.data.properties import RUN_TWICE
from pytest_gracekill.errors import UsageError
from pytest_gracekill.routine.adapt import MANAGERS, adapt, form_of, name_of
from pytest_gracekill.routine.external import External
from pytest_gracekill.routine.flags import KillFlags
from pytest_gracekill.settings import KINDS, Value
from pytest_gracekill.witness.adopted import check as check_locks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pytest_gracekill.arguments import Returns
    from pytest_gracekill.choreography import Point
    from pytest_gracekill.judgement import Judgement
    from pytest_gracekill.routine.adapt import Adapted
    from pytest_gracekill.routine.domain import Domain
    from pytest_gracekill.routine.model import Driver, Lookup
    from pytest_gracekill.routine.policy import KillPolicy
    from pytest_gracekill.witness.class_order import TrialOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a trial is to do; every value has been checked.

    ``vm``: a VM that runs already, else one is started with ``knobs`` in ``directory``.
    ``deadline``: CLOCK_MONOTONIC seconds by which the trial should have ended, or None.
    ``survive_asked``: the test asked for ``survive`` itself. ``returns``, ``raises``, ``settle``:
    what success says, what stands for it, and seconds in which a request may come after it.
    ``session_order``: the order of locks of all trials of the session, where it is asked for.
    """

    routine: Adapted
    knobs: Knobs
    directory: Path
    vm: FakeQemu | None
    flags: KillFlags
    policy: KillPolicy | None
    force: bool | None
    survive: float | None
    slack: float
    stall_limit: float
    contenders: tuple[str, ...]
    contend: tuple[Callable[[], object], ...]
    locks: tuple[tuple[object, str], ...]
    at: Mapping[Point, str | Callable[[Driver, Domain], object]]
    callers: int
    lookup: Lookup
    succeeded: Callable[[object], bool] | None
    budget: float | None
    deadline: float | None
    survive_asked: bool = False
    returns: Returns = "gone"
    raises: tuple[type[Exception], ...] = ()
    settle: float = 1.0
    session_order: TrialOrder | None = None

    @property
    def nowait(self) -> bool:
        """Whether the call is asked not to wait for the end."""
        return bool(self.flags & KillFlags.NOWAIT and self.routine.takes("flags"))

    @property
    def given(self) -> frozenset[str]:
        """What the routine is given although it has a default of its own."""
        policy = set() if self.policy is None else {"policy", "grace", "timeout"}
        return frozenset({"flags"} | policy)


def default_topology(routine: Adapted) -> str:
    """Who reaps the VM of such a routine: its manager, or somebody else as for libvirt."""
    return "child" if _owns_child(routine) else "reaped"


def topology_for(routine: object, source: str) -> Value:
    """The default topology of a VM that is started before the trial, for this routine."""
    adapted = adapt(routine, source)
    return Value(value=default_topology(adapted), source=f"the routine's {adapted.kind!r}")


def _owns_child(routine: Adapted) -> bool:
    return routine.kind in ("popen", "process") or routine.starts_the_vm


def kinds_of(contenders: int | str | Sequence[str]) -> tuple[str, ...]:
    """The kind of each contender: a number is spread evenly over the kinds."""
    if isinstance(contenders, int):
        return tuple(islice(cycle(KINDS), contenders))
    return (contenders,) if isinstance(contenders, str) else tuple(contenders)


def fits(routine: Adapted, knobs: Knobs, vm: FakeQemu | None = None) -> None:
    """Check that the routine can be handed a VM of this topology; ``vm`` is one that runs already.

    :raises UsageError: a routine that takes our own child, or starts it, was given somebody else's.
    """
    own = (FakeQemu if vm is None else vm).own_child
    if _owns_child(routine) and knobs.topology not in own:
        does = "starts its VM" if routine.starts_the_vm else f"takes {routine.kind!r}"
        fix = "" if vm is None else f'; say it where the VM is made: {vm.fixture}(topology="child")'
        raise UsageError(
            f"topology={knobs.topology!r}: a routine that {does} needs a child of"
            f" its own: {', '.join(own)}{fix}"
        )
    if isinstance(routine.routine, External) and routine.routine.wants_qmp and not knobs.qmp:
        raise UsageError(
            f"{routine}: {{qmp}} is filled in only with the knob qmp=True", source=routine.source
        )


def knob_names() -> frozenset[str]:
    """The names of the fake's knobs."""
    return frozenset(field.name for field in dataclasses.fields(Knobs))


def _would_be_dropped(name: str, value: Value, vm: object) -> UsageError | None:
    """Why a knob that goes with a VM that runs already would change nothing."""
    if not isinstance(vm, FakeQemu):
        return None
    said = f"{name}={value.value!r}"
    if name in vm.knob_names:
        if value.source != "the call":
            return None  # a marker's knobs are read where the VM is made
        fix = f"say it where the VM is made: {vm.fixture}({said})"
        return UsageError(f"{said} with vm=...: that VM runs already; {fix}", source=value.source)
    if name not in knob_names():
        return None
    return UsageError(
        f"{said} with vm=...: {vm.fixture} has no such knob, the VM is none that was asked for it",
        source=value.source,
    )


def plan(
    routine: object,
    values: Mapping[str, Value],
    *,
    source: str,
    directory: Callable[[], Path],
    deadline: float | None,
    session_order: TrialOrder | None = None,
    in_suite: bool = False,
) -> Plan:
    """The plan of a trial; ``directory`` makes a folder, and is called last.

    :param in_suite: the conformance suite asks, whose ``survive`` is that of its user.
    :raises UsageError: a value cannot be used.
    """
    adapted = adapt(routine, source)
    names = knob_names()
    known = {*DEFAULTS, *settings.SETTINGS, *names} - settings.SESSION_ONLY
    for name, value in values.items():
        if name in settings.SESSION_ONLY and not settings.is_own(value):
            continue
        if "vm" in values and (error := _would_be_dropped(name, value, values["vm"].value)):
            raise error
        if name not in known:
            raise settings.unknown(name, known, value.source)
        if name in settings.SETTINGS:
            settings.checked(settings.SETTINGS[name], value.value, value.source)
        elif name in CHECKS and (wrong := CHECKS[name](value.value)) is not None:
            raise UsageError(f"{name}={value.value!r}: {wrong}", source=value.source)
    given = {name: value.value for name, value in values.items() if name in known}
    chosen = {**DEFAULTS, **given}
    if adapted.takes("flags") and not settings.is_own(values["force"]):
        # the flags of each call say what is promised
        chosen["force"] = None
    _fits(adapted, values)
    vm = cast("FakeQemu | None", chosen["vm"])
    given_locks = cast("Sequence[tuple[object, str]]", chosen["locks"])
    check_locks(given_locks, values["locks"].source if "locks" in values else "the call")
    knobs = _knobs(adapted, values, names) if vm is None else vm.knobs
    fits(adapted, knobs, vm)
    return Plan(
        routine=adapted,
        knobs=knobs,
        directory=Path() if vm is not None else directory(),
        vm=vm,
        flags=KillFlags(cast("int", chosen["flags"])),
        policy=cast("KillPolicy | None", chosen["policy"]),
        force=cast("bool | None", chosen["force"]),
        survive=cast("float | None", chosen["survive"]),
        slack=cast("float", chosen["slack"]),
        stall_limit=cast("float", chosen["stall_limit"]),
        contenders=kinds_of(cast("int | str | Sequence[str]", chosen["contenders"])),
        contend=tuple(cast("Sequence[Callable[[], object]]", chosen["contend"])),
        locks=tuple(given_locks),
        at=cast("Mapping[Point, str | Callable[[Driver, Domain], object]]", chosen["at"]),
        callers=cast("int", chosen["callers"]),
        lookup=cast("Lookup", chosen["lookup"]),
        succeeded=cast("Callable[[object], bool] | None", chosen["succeeded"]),
        budget=cast("float | None", chosen["budget"]),
        deadline=deadline,
        survive_asked=not in_suite and settings.is_own(values["survive"]),
        returns=cast("Returns", chosen["returns"]),
        raises=_classes(chosen["raises"]),
        settle=float(cast("float", chosen["settle"])),
        session_order=session_order if chosen["lock_order"] == "session" else None,
    )


def _classes(raises: object) -> tuple[type[Exception], ...]:
    """One exception class is as good as a tuple of one."""
    return cast("tuple[type[Exception], ...]", raises if isinstance(raises, tuple) else (raises,))


def _fits(adapted: Adapted, values: Mapping[str, Value]) -> None:
    """What says something to a routine needs a routine that listens."""
    _can_be_used_so(adapted, values)
    for name, instead in (("flags", "; say force=True or force=False"), ("policy", "")):
        value = values.get(name)
        takes = adapted.takes(name) or (
            name == "policy" and (adapted.takes("grace") or adapted.takes("timeout"))
        )
        if value is not None and value.value and not takes:
            raise UsageError(
                f"{name}={value.value}: the routine {adapted} takes no {name}{instead}",
                source=value.source,
            )


def _can_be_used_so(adapted: Adapted, values: Mapping[str, Value]) -> None:
    """What a trial asks for needs a routine of the form that has it."""

    def given(name: str) -> object:
        return values[name].value if name in values else DEFAULTS[name]

    if given("at") and (wrong := _acts_cannot(adapted, given)) is not None:
        raise UsageError(wrong, source=values["at"].source)
    if adapted.starts_the_vm and given("vm") is not None:
        raise UsageError(
            f"vm={given('vm')!r}: the routine {adapted} starts its VM itself", source="the call"
        )
    if adapted.kind == "child" and adapted.form not in MANAGERS and given("callers") != 1:
        raise UsageError(
            f"callers={given('callers')}: the routine {adapted} starts the VM in the same call; a"
            " generator that starts it and yields its stop can be called several times",
            source=values["callers"].source,
        )
    for work in cast("Sequence[object]", given("contend")):
        # what a generator yields may be a coroutine function: that is seen when it has yielded
        has_loop = adapted.asynchronous or adapted.form == "generator"
        if callable(work) and form_of(work) == "coroutine" and not has_loop:
            raise UsageError(
                f"contend={name_of(work)}: a coroutine function runs in the event loop of an async"
                f" routine, and {adapted} is none",
                source=values["contend"].source,
            )
    if adapted.asynchronous and adapted.kind == "driver" and given("callers") != 1:
        raise UsageError(
            f"callers={given('callers')}: the routine {adapted} is async and takes a driver, and"
            " its locks belong to threads: the callers of one loop cannot contend for them",
            source=values["callers"].source,
        )
    if adapted.asynchronous and asyncio._get_running_loop() is not None:  # noqa: SLF001 - the only one that does not raise
        raise UsageError(
            f"the routine {adapted} is async, and an event loop runs here already: call gracekill"
            " from a plain test function",
            source="the call",
        )


def _acts_cannot(adapted: Adapted, given: Callable[[str], object]) -> str | None:
    """Why these acts cannot be played in this trial."""
    acts = tuple(cast("Mapping[str, object]", given("at")).values())
    if adapted.kind != "driver":
        return (
            f"at={given('at')!r}: the routine {adapted} takes no driver, whose domain could be"
            " acted on"
        )
    if given("vm") is not None and "restart" in acts:
        return "at='restart' with vm=...: the second VM needs a folder of this trial's"
    if "restart" in acts and given("callers") != 1:
        return (
            f"at='restart' with callers={given('callers')}: a second caller that comes after it"
            " would stop the new VM, and rightly so"
        )
    if "undefine" in acts and given("callers") != 1:
        return (
            f"at='undefine' with callers={given('callers')}: the callers have no reference of their"
            " own then, and a second one would come with a domain that is gone"
        )
    return None


def _knobs(adapted: Adapted, values: Mapping[str, Value], names: Iterable[str]) -> Knobs:
    chosen = {name: value for name, value in values.items() if name in names}
    chosen.setdefault("topology", topology_for(adapted.routine, adapted.source))
    return Knobs.from_values(
        {name: value.value for name, value in chosen.items()},
        {name: value.source for name, value in chosen.items()},
    )


def properties(report: Judgement) -> list[tuple[str, object]]:
    """What the JUnit file says of a trial, as properties of its test."""
    found: list[tuple[str, object]] = [
        ("gracekill_lost_blocks", len(report.disk.lost)),
        ("gracekill_sigkill_sent", report.sigkill_sent),
        ("gracekill_elapsed", round(report.elapsed, 3)),
    ]
    if report.longest_stall is not None:
        found.append(("gracekill_longest_stall", round(report.longest_stall, 3)))
    if report.run_twice:
        found.append((RUN_TWICE, report.run_twice))
    return found


def evidence_root(value: object, base: Path) -> tuple[Path, bool]:
    """Where the evidence of a run goes, and whether that of every trial; from a value of ``save``.

    ``base`` is where pytest was started: a test may have gone elsewhere since.
    """
    folder, every = settings.saving(value)
    try:
        here = Path.cwd()
    except FileNotFoundError:  # the test has taken its working directory away
        here = None
    return (Path(folder) if here == base else base / folder), every


def evidence_folder(root: Path, nodeid: str, number: int) -> Path:
    """Where the evidence of a trial goes: under the test's name, the same on every worker."""
    parts = [re.sub(r"[^\w.\-\[\]]+", "_", part) for part in nodeid.replace("::", "/").split("/")]
    # ".." must not lead out of the folder
    return root.joinpath(*(part.strip(".") or "_" for part in parts), f"trial-{number}")
