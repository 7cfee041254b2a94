"""nox: what Ctrl-C does to a command of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .shipped import KILL, Shipped, Step, term

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable


def shutdown(popen: subprocess.Popen[bytes]) -> None:
    from nox.popen import DEFAULT_INTERRUPT_TIMEOUT, DEFAULT_TERMINATE_TIMEOUT, shutdown_process

    shutdown_process(popen, DEFAULT_INTERRUPT_TIMEOUT, DEFAULT_TERMINATE_TIMEOUT)


def shutdown_after(seconds: float) -> Callable[[subprocess.Popen[bytes]], None]:
    def shutdown(popen: subprocess.Popen[bytes]) -> None:
        from nox.popen import DEFAULT_INTERRUPT_TIMEOUT, shutdown_process

        shutdown_process(popen, DEFAULT_INTERRUPT_TIMEOUT, seconds)

    return shutdown


SHIPPED = (
    Shipped(
        key="nox",
        call="nox: Ctrl-C",
        routine=shutdown,
        timed=shutdown_after,
        steps=(Step(wait=0.3), term(0.2), KILL),
        source="nox/popen.py: shutdown_process",
        package="nox",
        force=True,
        remark="reads to the end of the output, after SIGKILL as well",
    ),
)
