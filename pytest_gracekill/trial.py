"""What a user asked for, checked and made into a plan before any process is started."""

from __future__ import annotations

import dataclasses
import inspect
import re
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from pytest_gracekill import settings
from pytest_gracekill.child.handle import FakeQemu
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.errors import UsageError
from pytest_gracekill.routine.adapt import adapt
from pytest_gracekill.routine.flags import KillFlags
from pytest_gracekill.routine.model import Lookup
from pytest_gracekill.routine.policy import KillPolicy
from pytest_gracekill.settings import KINDS, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pytest_gracekill.report import Report
    from pytest_gracekill.routine.adapt import Adapted


_OWN_CHILD = ("child", "wrapped", "leaderless")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a trial is to do; every value has been checked.

    ``vm``: a VM that runs already, else one is started with ``knobs`` in ``directory``.
    ``deadline``: CLOCK_MONOTONIC seconds by which the trial should have ended, or None.
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
    lookup: Lookup
    succeeded: Callable[[object], bool] | None
    budget: float | None
    deadline: float | None


def default_topology(kind: str) -> str:
    """Who reaps the VM of a routine of this kind: its manager, or somebody else as for libvirt."""
    return "child" if kind in ("popen", "process") else "reaped"


def kinds_of(contenders: int | str | Sequence[str]) -> tuple[str, ...]:
    """The kind of each contender: a number is spread evenly over the kinds."""
    if isinstance(contenders, int):
        return tuple(islice(cycle(KINDS), contenders))
    return (contenders,) if isinstance(contenders, str) else tuple(contenders)


def fits(routine: Adapted, knobs: Knobs) -> None:
    """Check that the routine can be handed a VM of this topology.

    :raises UsageError: a routine that takes our own child was given somebody else's.
    """
    if routine.kind in ("popen", "process") and knobs.topology not in _OWN_CHILD:
        raise UsageError(
            f"topology={knobs.topology!r}: a routine that takes {routine.kind!r} needs a child of"
            f" our own: {', '.join(_OWN_CHILD)}"
        )


def knob_names() -> frozenset[str]:
    """The names of the fake's knobs."""
    return frozenset(field.name for field in dataclasses.fields(Knobs))


def _flags(value: object) -> str | None:
    whole = int(KillFlags.FORCE | KillFlags.NOWAIT)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= whole:
        return None
    return "KillFlags.FORCE, KillFlags.NOWAIT, both or 0 is needed"


def _policy(value: object) -> str | None:
    return None if value is None or isinstance(value, KillPolicy) else "a KillPolicy is needed"


def _force(value: object) -> str | None:
    return None if value is None or isinstance(value, bool) else "True, False or None is needed"


def _lookup(value: object) -> str | None:
    return (
        None
        if value in get_args(Lookup)
        else f"one of {', '.join(map(repr, get_args(Lookup)))} is needed"
    )


def _succeeded(value: object) -> str | None:
    return None if value is None or callable(value) else "a callable (result -> bool) is needed"


def _vm(value: object) -> str | None:
    return None if value is None or isinstance(value, FakeQemu) else "a FakeQemu is needed"


def _contend(value: object) -> str | None:
    right = "a list of plain callables without parameters is needed"
    if not isinstance(value, list | tuple):
        return right
    plain = [callable(work) and not inspect.iscoroutinefunction(work) for work in value]
    return None if all(plain) else right


_CHECKS: dict[str, Callable[[object], str | None]] = {
    "vm": _vm,
    "flags": _flags,
    "policy": _policy,
    "force": _force,
    "contend": _contend,
    "lookup": _lookup,
    "succeeded": _succeeded,
}
_DEFAULTS: dict[str, object] = {
    "vm": None,
    "flags": 0,
    "policy": None,
    "force": None,
    "contend": (),
    "lookup": "coupled",
    "succeeded": None,
}


def plan(
    routine: Callable[..., object],
    values: Mapping[str, Value],
    *,
    source: str,
    directory: Callable[[], Path],
    deadline: float | None,
) -> Plan:
    """The plan of a trial; ``directory`` makes a folder, and is called last.

    :raises UsageError: a value cannot be used.
    """
    adapted = adapt(routine, source)
    names = knob_names()
    known = {*_CHECKS, *settings.SETTINGS, *names}
    for name, value in values.items():
        if name not in known:
            raise settings.unknown(name, known, value.source)
        if name in settings.SETTINGS:
            settings.checked(settings.SETTINGS[name], value.value, value.source)
        elif name in _CHECKS and (wrong := _CHECKS[name](value.value)) is not None:
            raise UsageError(f"{name}={value.value!r}: {wrong}", source=value.source)
    chosen = {name: value.value for name, value in values.items() if name in known}
    arguments = {**_DEFAULTS, **chosen}
    _fits(adapted, values)
    vm = cast("FakeQemu | None", arguments["vm"])
    knobs = _knobs(adapted, values, names) if vm is None else vm.knobs
    fits(adapted, knobs)
    return Plan(
        routine=adapted,
        knobs=knobs,
        directory=Path() if vm is not None else directory(),
        vm=vm,
        flags=KillFlags(cast("int", arguments["flags"])),
        policy=cast("KillPolicy | None", arguments["policy"]),
        force=cast("bool | None", arguments["force"]),
        survive=cast("float | None", arguments["survive"]),
        slack=cast("float", arguments["slack"]),
        stall_limit=cast("float", arguments["stall_limit"]),
        contenders=kinds_of(cast("int | str | Sequence[str]", arguments["contenders"])),
        contend=tuple(cast("Sequence[Callable[[], object]]", arguments["contend"])),
        lookup=cast("Lookup", arguments["lookup"]),
        succeeded=cast("Callable[[object], bool] | None", arguments["succeeded"]),
        budget=cast("float | None", arguments["budget"]),
        deadline=deadline,
    )


def _fits(adapted: Adapted, values: Mapping[str, Value]) -> None:
    """What says something to a routine needs a routine that listens."""
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


def _knobs(adapted: Adapted, values: Mapping[str, Value], names: Iterable[str]) -> Knobs:
    chosen = {name: value for name, value in values.items() if name in names}
    chosen.setdefault(
        "topology",
        Value(value=default_topology(adapted.kind), source=f"the routine's {adapted.kind!r}"),
    )
    return Knobs.from_values(
        {name: value.value for name, value in chosen.items()},
        {name: value.source for name, value in chosen.items()},
    )


def properties(report: Report) -> list[tuple[str, object]]:
    """What the JUnit file says of a trial, as properties of its test."""
    found: list[tuple[str, object]] = [
        ("gracekill_lost_blocks", len(report.disk.lost)),
        ("gracekill_sigkill_sent", report.sigkill_sent),
        ("gracekill_elapsed", round(report.elapsed, 3)),
    ]
    if report.longest_stall is not None:
        found.append(("gracekill_longest_stall", round(report.longest_stall, 3)))
    return found


def evidence_folder(root: str, nodeid: str, number: int) -> Path:
    """Where the evidence of a trial goes: under the test's name, the same on every worker."""
    parts = [re.sub(r"[^\w.\-\[\]]+", "_", part) for part in nodeid.replace("::", "/").split("/")]
    # ".." must not lead out of the folder
    return Path(root).joinpath(*(part.strip(".") or "_" for part in parts), f"trial-{number}")
