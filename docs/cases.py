"""The table of the suite's cases, from their docstrings; when one is skipped is told here."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING

from pytest_gracekill.conformance.cases import described, waits_long

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The modules of the suite, and what the cases of each are about.
GROUPS = {
    "test_data": "The guest's data",
    "test_escalation": "An end, and the truth about it",
    "test_identity": "Which process, and is it dead?",
    "test_company": "Callers, other VMs, other threads",
    "test_schedules": "Every order of events",
}

#: By case: for which routines, or where, it does not apply.
SKIPPED = {
    "clock_set_forward": "commands: they read the machine's clock, which stays as it is",
    "clock_set_back": "commands, as above",
    "waits_that_are_interrupted": "commands",
    "keyboard_interrupt": "commands",
    "flush_beyond_the_promise_forced": "with `--gracekill-graceful`, unless the routine takes"
    " `flags`",
    "flush_beyond_the_promise_graceful": "without `--gracekill-graceful`, unless the routine takes"
    " `flags`",
    "vm_that_survives_sigkill": "with `--gracekill-graceful`; where ptrace is denied",
    "helpers_of_a_killed_vm": "with `--gracekill-graceful`; routines that take `driver`: helpers"
    " are their caller's matter",
    "nowait_does_not_wait": "routines without `flags`",
    "dead_already": "managers that start and stop the VM in one call; commands with `start`",
    "reaped_late": "routines whose own child the VM is",
    "reaped_by_somebody_else": "commands with `start`",
    "not_permitted": "injected: commands. By the kernel: without root; managers; routines whose"
    " own child the VM is; commands where there is no `setpriv`",
    "pid_that_is_used_again": "where no pid namespace can be had; managers; routines whose own"
    " child the VM is",
    "two_callers": "managers that start and stop the VM in one call",
    "ten_vms": "as above; routines that need the main thread",
    "other_work_goes_on": "routines that do not take `driver`",
    "every_order_ends": "commands, managers, coroutines; what uses something that is not simulated,"
    " or cannot be explored far enough in 5 s",
    "every_order_beside_the_handler": "routines that do not take `driver`; as above",
    "every_order_beside_an_undefine": "as above",
    "every_order_beside_a_restart": "as above",
}


def functions(module: str) -> Iterator[Callable[..., object]]:
    """The cases of a module of the suite, in their order; a parametrized one is one function."""
    loaded = import_module(f"pytest_gracekill.conformance.{module}")
    for name, value in vars(loaded).items():
        if name.startswith("test_") and value.__module__ == loaded.__name__:
            yield value


def variants(function: Callable[..., object]) -> list[str]:
    """The ids of a parametrized case."""
    marks = getattr(function, "pytestmark", [])
    for mark in marks:
        if mark.name == "parametrize":
            ids = mark.kwargs.get("ids") or mark.args[1]
            return [str(value) for value in ids]
    return []


def number() -> int:
    """How many cases there are."""
    found = [function for module in GROUPS for function in functions(module)]
    return sum(len(variants(function)) or 1 for function in found)


def table() -> str:
    """Every case: what it asks for, the failure modes, where it was seen, when it is skipped."""
    parts = []
    for module, title in GROUPS.items():
        asks = (
            inspect.getdoc(import_module(f"pytest_gracekill.conformance.{module}")) or ""
        ).strip()
        lines = [
            f"### {title}\n\n{asks}\n",
            "| case | contract | failure modes | seen in | skipped |",
            "| --- | --- | --- | --- | --- |",
        ]
        for function in functions(module):
            case = described(function)
            name = f"`{case.id}`"
            if waits_long(function):
                name += " (full grace)"
            if variants(function):
                name += f": {', '.join(variants(function))}"
            modes = ", ".join(case.modes)
            cells = (name, case.contract, modes, case.source, SKIPPED.get(case.id, ""))
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
