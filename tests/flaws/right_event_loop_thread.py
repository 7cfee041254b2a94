"""A loop in a thread of its own has the VM, and the thread that stops it waits for the answer."""

import asyncio
import threading
from collections.abc import Callable, Iterator

from pytest_gracekill import Child

TRIAL = {"flush_time": 0.3, "force": True}


async def _stop(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    try:
        async with asyncio.timeout(10):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def manage(child: Child) -> Iterator[Callable[[], None]]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    started = asyncio.run_coroutine_threadsafe(asyncio.create_subprocess_exec(*child.argv), loop)
    process = started.result(10)
    child.wait_ready()
    yield lambda: asyncio.run_coroutine_threadsafe(_stop(process), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
