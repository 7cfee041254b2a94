"""asyncio's own subprocess, started and stopped in one loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from pytest_gracekill import Child

TRIAL = {"flush_time": 0.3, "force": True}


async def manage(child: Child) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    process = await asyncio.create_subprocess_exec(*child.argv)
    await asyncio.to_thread(child.wait_ready)

    async def stop() -> None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()

    yield stop
