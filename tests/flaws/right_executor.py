"""The wait is a job of an executor, and its future has the deadline."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

TRIAL = {"flush_time": 0.3, "force": True}


def stop(popen: "subprocess.Popen[bytes]") -> int:
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="reaper") as executor:
        status = executor.submit(popen.wait)
        popen.terminate()
        try:
            return status.result(10)
        except TimeoutError:
            popen.kill()
            return status.result(5)
