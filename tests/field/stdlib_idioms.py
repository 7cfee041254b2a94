"""What Python's own documentation offers: subprocess and multiprocessing."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from contextlib import suppress
from math import ceil
from typing import TYPE_CHECKING

from .shipped import KILL, UNBOUNDED, Shipped, term

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.child.unstarted import Child


def up() -> int:
    """Seconds from its start after which a fake is ready for sure, on a machine as busy as now.

    For routines whose own clock runs from there.
    """
    begin = time.monotonic()
    subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True)
    return min(max(2, ceil(50 * (time.monotonic() - begin))), 30)


def kill(popen: subprocess.Popen[bytes]) -> None:
    popen.kill()
    popen.wait()


def terminate(popen: subprocess.Popen[bytes]) -> None:
    popen.terminate()
    popen.wait()


def terminate_wait_kill(timeout: float) -> Callable[[subprocess.Popen[bytes]], None]:
    def stop(popen: subprocess.Popen[bytes]) -> None:
        popen.terminate()
        try:
            popen.wait(timeout)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()

    return stop


def run_timeout(child: Child) -> None:
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(child.argv, timeout=up(), check=False)


def worker(timeout: float) -> Callable[[Child], Iterator[Callable[[], None]]]:
    def manage(child: Child) -> Iterator[Callable[[], None]]:
        process = multiprocessing.get_context("spawn").Process(target=child.target)
        process.start()

        def stop() -> None:
            process.terminate()
            process.join(timeout)
            process.kill()
            process.join()

        yield stop
        process.close()

    return manage


SHIPPED = (
    Shipped(
        key="popen-kill",
        call="Popen.kill()",
        routine=kill,
        steps=(KILL,),
        source="subprocess",
        force=True,
    ),
    Shipped(
        key="popen-terminate",
        call="Popen.terminate(); wait()",
        routine=terminate,
        steps=(term(UNBOUNDED),),
        source="subprocess",
    ),
    Shipped(
        key="popen-terminate-kill",
        call="Popen.terminate(); wait(5); kill()",
        routine=terminate_wait_kill(5),
        timed=terminate_wait_kill,
        steps=(term(5), KILL),
        source="an idiom of many projects",
        force=True,
    ),
    Shipped(
        key="subprocess-run",
        call="subprocess.run(timeout=)",
        routine=run_timeout,
        steps=(KILL,),
        source="subprocess",
        force=True,
    ),
    Shipped(
        key="multiprocessing",
        call="multiprocessing.Process.terminate(); join(3); kill()",
        routine=worker(3),
        timed=worker,
        steps=(term(3), KILL),
        source="an idiom of many projects",
        force=True,
    ),
)
