"""asyncio: the idiom with a timeout, in the event loop of whoever starts the process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .shipped import KILL, Shipped, term

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from pytest_gracekill.child.unstarted import Child

    Manager = Callable[[Child], AsyncIterator[Callable[[], Awaitable[None]]]]


def terminate_wait_kill(timeout: float) -> Manager:
    async def manage(child: Child) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        process = await asyncio.create_subprocess_exec(*child.argv)

        async def stop() -> None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), timeout)
            except TimeoutError:
                process.kill()
                await process.wait()

        yield stop

    return manage


SHIPPED = (
    Shipped(
        key="asyncio",
        call="asyncio: terminate(); wait_for(wait(), 5); kill()",
        routine=terminate_wait_kill(5),
        timed=terminate_wait_kill,
        steps=(term(5), KILL),
        source="an idiom of many projects",
        force=True,
    ),
)
