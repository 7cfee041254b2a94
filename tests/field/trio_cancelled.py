"""trio: `run_process` in a scope that is cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .shipped import KILL, Shipped, term

if TYPE_CHECKING:
    from pytest_gracekill.child.unstarted import Child


def cancelled(child: Child) -> None:
    import trio

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.run_process, child.argv)
            await trio.to_thread.run_sync(child.wait_ready)
            nursery.cancel_scope.cancel()

    trio.run(main)


SHIPPED = (
    Shipped(
        key="trio",
        call="trio.run_process, cancelled",
        routine=cancelled,
        steps=(term(5), KILL),
        source="trio/_subprocess.py: _posix_deliver_cancel",
        package="trio",
        force=True,
        remark="warns before SIGKILL",
    ),
)
