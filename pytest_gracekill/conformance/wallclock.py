"""The wall clock, set by hours in the middle of a wait, as Python code sees it.

Names that were bound by import are replaced, too. The machine's clock stays as it is, and so does
the monotonic one; C code and commands see no difference.
"""

from __future__ import annotations

import datetime as dt
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_gracekill.conformance.disturbances import asked, beside
from pytest_gracekill.witness.bindings import replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.child.journal import Journal

#: Whose clock is left alone, as far as they have bound it by name: pytest's and ours.
_LEFT_ALONE = ("pytest", "_pytest", "xdist", "execnet", "pytest_gracekill", "pytest_timeout")

_real_datetime, _real_date = dt.datetime, dt.date
_real_time, _real_time_ns = time.time, time.time_ns


class _Offset:
    """By how much the clock has been set, in nanoseconds."""

    ns: ClassVar[int] = 0


class _Meta(type):
    """``isinstance`` as before: what the real class made is a datetime."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.__mro__[1])

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.__mro__[1])


def _offset() -> dt.timedelta:
    return dt.timedelta(microseconds=_Offset.ns // 1000)


class _Datetime(dt.datetime, metaclass=_Meta):
    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        return _real_datetime.now(tz) + _offset()

    @classmethod
    def utcnow(cls) -> Any:
        return _real_datetime.now(dt.UTC).replace(tzinfo=None) + _offset()

    @classmethod
    def today(cls) -> Any:
        return _real_datetime.now() + _offset()


class _Date(dt.date, metaclass=_Meta):
    @classmethod
    def today(cls) -> Any:
        return (_real_datetime.now() + _offset()).date()


def _shifted_time() -> float:
    return _real_time() + _Offset.ns / 1e9


def _shifted_time_ns() -> int:
    return _real_time_ns() + _Offset.ns


@contextmanager
def clock_set(journal: Journal, hours: float) -> Iterator[None]:
    """Set the wall clock that Python code sees by so many hours, when the VM was asked to stop.

    ``time.time``, ``time.time_ns``, ``datetime.now``, ``utcnow``, ``today`` and ``date.today`` are
    replaced in every module that has them by name. The machine's clock stays as it is, and so does
    the monotonic one.
    """

    def step(wanted: Callable[[], bool]) -> None:
        while wanted():
            if asked(journal):
                _Offset.ns = int(hours * 3600e9)
                return

    pairs = [
        (_real_time, _shifted_time),
        (_real_time_ns, _shifted_time_ns),
        (_real_datetime, _Datetime),
        (_real_date, _Date),
    ]
    try:
        with replaced(pairs, but=_LEFT_ALONE), beside(step, "clock-1"):
            yield
    finally:
        _Offset.ns = 0
