"""Commands that Debian has: dpkg's start-stop-daemon, and timeout of coreutils."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from pytest_gracekill import External

from .shipped import KILL, PATHS, Shipped, term
from .stdlib_idioms import up

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gracekill.child.unstarted import Child

START_STOP_DAEMON = shutil.which("start-stop-daemon", path=PATHS) or "start-stop-daemon"


def start_stop_daemon(seconds: float) -> External:
    # --retry takes whole seconds
    stop = f"{START_STOP_DAEMON} --stop --quiet --pid {{pid}} --retry {round(seconds)}"
    return External(stop=stop)


def timeout(kill_after: float) -> Callable[[Child], None]:
    def run(child: Child) -> None:
        command = ["timeout", "-k", f"{kill_after}s", f"{up()}s"]
        subprocess.run([*command, *child.argv], check=False)

    return run


SHIPPED = (
    Shipped(
        key="start-stop-daemon",
        call="start-stop-daemon --stop --retry 5",
        routine=start_stop_daemon(5),
        timed=start_stop_daemon,
        steps=(term(5), KILL),
        source="dpkg's start-stop-daemon.c",
        command="start-stop-daemon",
        force=True,
    ),
    Shipped(
        key="timeout",
        call="timeout -k 1s",
        routine=timeout(1),
        timed=timeout,
        steps=(term(1), KILL),
        source="coreutils' timeout.c",
        command="timeout",
        force=True,
    ),
)
