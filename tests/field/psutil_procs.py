"""psutil's recipe: terminate all, wait for all, kill who is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from .shipped import KILL, Shipped, term

if TYPE_CHECKING:
    from collections.abc import Callable


def terminate_all(timeout: float) -> Callable[[psutil.Process], None]:
    def stop(process: psutil.Process) -> None:
        procs = [process, *process.children()]
        for p in procs:
            p.terminate()
        _, alive = psutil.wait_procs(procs, timeout=timeout)
        for p in alive:
            p.kill()
        psutil.wait_procs(alive, timeout=timeout)

    return stop


SHIPPED = (
    Shipped(
        key="psutil",
        call="psutil: terminate(), wait_procs(timeout=3), kill()",
        routine=terminate_all(3),
        timed=terminate_all,
        steps=(term(3), KILL),
        source="the recipe in psutil's documentation",
        package="psutil",
        force=True,
    ),
)
