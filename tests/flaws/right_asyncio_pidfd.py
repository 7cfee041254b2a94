"""An event loop that watches the pidfd: nothing polls, and no signal can reach another process."""

import asyncio
import os
import signal

TRIAL = {"flush_time": 0.3, "force": True}


async def destroy(pid: int) -> bool:
    loop = asyncio.get_running_loop()
    pidfd = os.pidfd_open(pid)
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        for signum, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
            signal.pidfd_send_signal(pidfd, signum)
            try:
                await asyncio.wait_for(ended.wait(), seconds)
            except TimeoutError:
                continue
            return True
        return False
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
