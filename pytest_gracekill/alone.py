"""One trial or exploration at a time in a process.

Each watches what belongs to the whole process: signals, children, the garbage collector, the names
that it replaces. Two at once would report of each other.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What runs now, as the only value. One step of a dict decides who is first, with no lock that an
#: exploration could simulate or an interrupt could leave behind.
_running: dict[None, str] = {}


@contextmanager
def alone(what: str) -> Iterator[None]:
    """Run ``what`` (as "the trial of stop") unless something else of the kind runs already.

    :raises UsageError: it does; the error names both.
    """
    __tracebackhide__ = True
    # a new object each time: its identity says whose it is
    mine = f"{what}, in thread {threading.current_thread().name}"
    running = _running.setdefault(None, mine)
    if running is not mine:
        from pytest_gracekill.explore.tasks import refused  # noqa: PLC0415 - for an error only

        # where a body of an exploration begins it, the exploration ends with this error
        raise refused(
            f"{what} cannot begin while another one runs: {running}. Run one after the other, or in"
            " processes of their own, such as the workers of pytest-xdist"
        )
    try:
        yield
    finally:
        del _running[None]
