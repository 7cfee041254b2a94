"""The suite that users run on their own routine.

``pytest --pyargs pytest_gracekill.conformance`` judges the routine that an option names, or that
of the ``kill_routine`` fixture (the built-in one unless a ``conftest.py`` of the rootdir overrides
it). In a module of one's own, ``from pytest_gracekill.conformance import *`` brings the same tests
where one's own fixtures apply.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

_MODULES = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py"))


def _public() -> dict[str, object]:
    """Every case, and the fixture that they share."""
    # only here: the modules import pytest, and the plugin's start must not pay for it
    names = {"contract": import_module(f"{__name__}.terms").contract}
    for module in (import_module(f"{__name__}.{stem}") for stem in _MODULES):
        names |= {
            name: value
            for name, value in vars(module).items()
            if name.startswith("test_") and value.__module__ == module.__name__
        }
    return names


def __getattr__(name: str) -> object:
    if name == "__all__":
        return list(_public())
    if name == "contract" or (name.startswith("test_") and name not in _MODULES):
        public = _public()
        if name in public:
            return public[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
