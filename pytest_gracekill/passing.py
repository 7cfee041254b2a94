"""Exceptions that pass through a trial: they end the test or the run, and are not the routine's.

A KeyboardInterrupt is the user's. A subclass of it is not: whoever defines one raises it. What
pytest, pytest-timeout or a debugger raises to end a test comes out of whatever code runs just then.
"""

from __future__ import annotations

import bdb
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import TracebackType

#: The module whose signal handler fails a test that has outlived its limit.
_TIMEOUT = "pytest_timeout"


def passes_through(error: BaseException) -> bool:
    """Whether an exception, or one in a group, ends the test or the run wherever it comes from."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(passes_through, error.exceptions))
    if type(error) is KeyboardInterrupt or isinstance(error, pytest.exit.Exception | bdb.BdbQuit):
        return True
    return isinstance(error, pytest.fail.Exception) and _is_of_timeout(error.__traceback__)


def is_outcome(error: BaseException | None) -> bool:
    """Whether it was raised by ``pytest.skip()``, ``fail()``, ``xfail()`` or ``importorskip()``."""
    return isinstance(error, pytest.skip.Exception | pytest.fail.Exception | pytest.xfail.Exception)


def _is_of_timeout(traceback: TracebackType | None) -> bool:
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__") == _TIMEOUT:
            return True
        traceback = traceback.tb_next
    return False
