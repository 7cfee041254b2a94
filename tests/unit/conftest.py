"""The fixtures of these tests. Their code is in `fakes`: mypy takes one module named conftest."""

from fakes import fake

__all__ = ["fake"]
