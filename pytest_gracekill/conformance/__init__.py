"""The suite that users run on their own routine.

``pytest --pyargs pytest_gracekill.conformance`` judges the routine of the ``kill_routine`` fixture
(the built-in one unless a ``conftest.py`` of the rootdir overrides it). In a module of one's own,
``from pytest_gracekill.conformance import *`` brings the same tests where one's own fixtures apply.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

_CASES = Path(__file__).with_name("test_kill_routine.py")


def is_case(path: Path) -> bool:
    """True for the module of the cases, as pytest comes to it while collecting."""
    return path == _CASES


def _cases() -> ModuleType:
    # only here: the module imports pytest, and the plugin's start must not pay for it
    from pytest_gracekill.conformance import test_kill_routine  # noqa: PLC0415

    return test_kill_routine


def __getattr__(name: str) -> object:
    if name == "__all__":
        return list(_cases().__all__)
    if name.startswith(("test_", "contract")) and name != _CASES.stem:
        return getattr(_cases(), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
