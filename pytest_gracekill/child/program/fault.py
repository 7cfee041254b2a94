"""What goes wrong within the fake itself: it is journalled, so that no verdict is made of it."""

import os
import sys

from .record import Record, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from .configuration import Configuration


def end_with(error: Exception, configuration: "Configuration") -> "NoReturn":
    """Journal the error, print its traceback, and end."""
    text = f"{type(error).__name__}: {error}"
    try:  # noqa: SIM105  # contextlib is start-up time
        Record(configuration.journal).write("fault", pid=os.getpid(), text=printable(text))
    except OSError:
        pass  # the status tells, as nothing else leaves with it and without a line `exit`
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        os._exit(os.EX_SOFTWARE)
