"""What the plugin raises: usage errors before a trial, faults of the harness during one."""

from __future__ import annotations


class UsageError(ValueError):
    """A value that was handed in cannot be used; nothing has been started.

    :param what: one sentence that names the value and what would be right.
    :param source: where the value came from ("the call", "marker ...", "--gracekill-slack", ...).
    """

    def __init__(self, what: str, *, source: str = "the call") -> None:
        super().__init__(what, source)
        self.what = what
        self.source = source

    def __str__(self) -> str:
        return f"{self.what} (from {self.source})"

    def __reduce__(self) -> tuple[object, ...]:
        return _usage_error, (self.what, self.source)


class UnsupportedError(UsageError):
    """The machine does not let us do what was asked for; the fixtures skip the test for it."""

    def __reduce__(self) -> tuple[object, ...]:
        return _unsupported_error, (self.what, self.source)


def _unsupported_error(what: str, source: str) -> UnsupportedError:
    return UnsupportedError(what, source=source)


def _usage_error(what: str, source: str) -> UsageError:
    return UsageError(what, source=source)


class StartError(RuntimeError):
    """A fake did not become ready; everything that had been started is gone again."""


class WardenLostError(StartError):
    """Somebody has killed the warden of a command: what the command has done says nothing."""
