"""pexpect: what closing a child does, as leaving its `with` block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .shipped import KILL, Shipped, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.child.unstarted import Child

SENT = ("SIGHUP", "SIGHUP", "SIGCONT", "SIGINT")


def close(child: Child) -> Iterator[Callable[[], None]]:
    import pexpect

    spawned = pexpect.spawn(child.program)
    yield spawned.close


SHIPPED = (
    Shipped(
        key="pexpect",
        call="pexpect.spawn.close()",
        routine=close,
        # the first by the kernel, as the terminal goes
        steps=(*(Step(send=send, wait=0.1) for send in SENT), KILL),
        source="ptyprocess/ptyprocess.py: PtyProcess.terminate",
        package="pexpect",
        force=True,
    ),
)
