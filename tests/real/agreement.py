"""The table of agreement: every scenario, and the differences that are known, each with its reason.

A scenario is run on a fake and on a real QEMU, and what was seen is compared, fact by fact. What
differs has to be in `DIFFERENCES`; what is there has to differ.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import agreement_starting
import agreement_stopping
from agreement_kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agreement_kinds import Kind
    from agreement_seen import Seen

#: By what is done to the VM.
SCENARIOS: Mapping[str, Callable[[Kind], Seen]] = {
    **agreement_stopping.SCENARIOS,
    **agreement_starting.SCENARIOS,
}


class Fact(NamedTuple):
    """One of the things that are seen in a scenario."""

    scenario: str
    name: str


DIFFERENCES: Mapping[Fact, str] = {
    Fact("the lock on the image", "a second VM: standard error"): (
        "QEMU names the option that asks for the image; the fake's image is in its program, and no"
        " option asks for it"
    ),
    Fact("system_powerdown, without a guest", "then SIGTERM"): (
        "the fake always has a guest, which is up from the start and heeds the button at once;"
        " under `-machine none` there is nobody to heed it"
    ),
}


def observe(scenario: str) -> dict[str, Seen]:
    """Run a scenario on both kinds; what was seen of each, by its name."""
    seen = {}
    for kind in KINDS:
        with ExitStack() as stack:
            seen[kind.name] = SCENARIOS[scenario](kind(stack))
    return seen


def differing(seen: Mapping[str, Seen]) -> list[str]:
    """The names of the facts that are not the same, or that only one of them has."""
    fake, real = seen["fake"], seen["real"]
    return [
        name
        for name in dict.fromkeys([*fake, *real])
        if name not in fake or name not in real or fake[name] != real[name]
    ]


def declared(scenario: str) -> list[str]:
    """The names of its facts that are known to differ."""
    return [fact.name for fact in DIFFERENCES if fact.scenario == scenario]
