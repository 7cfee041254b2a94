"""What an exception that leaves the routine says of its call: a time-out, or a cancellation."""

from __future__ import annotations

from pytest_gracekill.witness.sites import line_of

#: What a typo in a routine raises, and what it does not mean to report.
_MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)

#: What to do about one.
MEND = "mend the line that raised: its exception looks like a mistake, not like a report"

#: Parts of the names of exceptions that mean a time-out, in lower case.
_TIMEOUT = ("timeout", "timedout", "tooslow")

#: Exceptions that end a call from outside. trio's is not importable without trio.
_CANCELLED = frozenset(("CancelledError", "Cancelled", "GeneratorExit", "KeyboardInterrupt"))


def means_timeout(error: BaseException) -> bool:
    """Whether an exception says that time has run out.

    `TimeoutError`, `subprocess.TimeoutExpired`, `psutil.TimeoutExpired`, trio's `TooSlowError`, or
    any class with one of those words in its name or in the name of a base class; a group of them.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(means_timeout(inner) for inner in error.exceptions)
    names = (base.__name__.lower() for base in type(error).__mro__)
    return any(part in name for name in names for part in _TIMEOUT)


def is_mistake(error: BaseException | None) -> bool:
    """Whether an exception is more likely a mistake in the code than a report of failure."""
    return isinstance(error, _MISTAKES)


def line_of_mistake(error: BaseException | None) -> str:
    """The line that raised a mistake, as `line_of` has it; empty for what reports a failure."""
    return line_of(error) if error is not None and is_mistake(error) else ""


def was_cancelled(error: BaseException | None) -> bool:
    """Whether a cancellation or an interrupt has left the routine, alone or in a group."""
    if error is None or isinstance(error, Exception):
        return False
    if isinstance(error, BaseExceptionGroup):
        return all(was_cancelled(inner) for inner in error.exceptions)
    return any(base.__name__ in _CANCELLED for base in type(error).__mro__)


def attribute(result: object, name: str) -> object:
    """An attribute of a result of the user's; None where there is none, or reading it raises."""
    try:
        return getattr(result, name, None)
    except Exception:  # noqa: BLE001 - a property of the user's may raise anything
        return None
