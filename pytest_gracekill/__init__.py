"""A pytest plugin that judges kill routines: SIGTERM, a wait, SIGKILL.

The public names are loaded when they are first used: pytest imports this package at its start,
and most test runs need none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_gracekill.child.disk import Audit
    from pytest_gracekill.child.handle import FakeQemu
    from pytest_gracekill.child.knobs import Crash, Stall, Stop
    from pytest_gracekill.child.real_managed import RealChild
    from pytest_gracekill.child.real_qemu import RealQemu
    from pytest_gracekill.child.unstarted import Child
    from pytest_gracekill.errors import StartError, UsageError
    from pytest_gracekill.explore.exploration import Exploration
    from pytest_gracekill.report import Report, Verdict
    from pytest_gracekill.routine.external import External
    from pytest_gracekill.routine.flags import KillFlags
    from pytest_gracekill.routine.model import Domain, Driver
    from pytest_gracekill.routine.policy import LIBVIRT_0_9_10, LIBVIRT_0_9_11, KillPolicy
    from pytest_gracekill.routine.process_kill import process_kill
    from pytest_gracekill.routine.result import KillResult
    from pytest_gracekill.witness.locks import DeadlockDetected

__all__ = [
    "LIBVIRT_0_9_10",
    "LIBVIRT_0_9_11",
    "Audit",
    "Child",
    "Crash",
    "DeadlockDetected",
    "Domain",
    "Driver",
    "Exploration",
    "External",
    "FakeQemu",
    "KillFlags",
    "KillPolicy",
    "KillResult",
    "RealChild",
    "RealQemu",
    "Report",
    "Stall",
    "StartError",
    "Stop",
    "UsageError",
    "Verdict",
    "process_kill",
]

_HOME = {
    "LIBVIRT_0_9_10": "routine.policy",
    "LIBVIRT_0_9_11": "routine.policy",
    "Audit": "child.disk",
    "Child": "child.unstarted",
    "Crash": "child.knobs",
    "DeadlockDetected": "witness.locks",
    "Domain": "routine.model",
    "Driver": "routine.model",
    "Exploration": "explore.exploration",
    "External": "routine.external",
    "FakeQemu": "child.handle",
    "KillFlags": "routine.flags",
    "KillPolicy": "routine.policy",
    "KillResult": "routine.result",
    "RealChild": "child.real_managed",
    "RealQemu": "child.real_qemu",
    "Report": "report",
    "Stall": "child.knobs",
    "StartError": "errors",
    "Stop": "child.knobs",
    "UsageError": "errors",
    "Verdict": "report",
    "process_kill": "routine.process_kill",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
