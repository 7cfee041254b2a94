"""What a routine may ask for by the names of its parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from subprocess import Popen

    from pytest_gracekill.child.unstarted import Unstarted
    from pytest_gracekill.routine.adapt import Adapted
    from pytest_gracekill.routine.flags import KillFlags
    from pytest_gracekill.routine.model import Domain, Driver
    from pytest_gracekill.routine.policy import KillPolicy


class Running(Protocol):
    """A VM that runs, as a routine can be given it."""

    @property
    def started_pid(self) -> int: ...

    @property
    def popen(self) -> Popen[bytes] | None: ...


def offer(
    routine: Adapted,
    *,
    flags: KillFlags,
    policy: KillPolicy,
    vm: Running | None = None,
    unstarted: Unstarted | None = None,
    model: tuple[Driver | None, Domain | None] = (None, None),
) -> dict[str, object]:
    """What a routine may ask for by name: of a VM that runs, or of one that it starts."""
    offered: dict[str, object] = {
        "flags": flags,
        "policy": policy,
        "grace": policy.grace,
        "timeout": policy.grace,
    }
    if routine.kind == "driver":
        offered["driver"], offered["domain"] = model
    elif unstarted is not None:
        offered["child"] = unstarted.child
    elif vm is not None and routine.kind == "external":
        offered["vm"] = vm
    elif vm is not None and routine.kind == "pid":
        offered["pid"] = vm.started_pid
    elif vm is not None and routine.kind == "popen":
        offered["popen"] = vm.popen
    elif vm is not None:
        import psutil  # noqa: PLC0415 - costs 10 ms, and few routines want it

        offered["process"] = psutil.Process(vm.started_pid)
    return offered
