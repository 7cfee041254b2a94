"""Topology "leaderless": the main thread ends, a worker thread goes on as the fake.

`/proc/PID/stat` then shows state Z although the process lives, works and holds its locks; a
pidfd becomes readable only when the last thread has ended.
"""

import _thread
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from .configuration import Configuration

SYS_EXIT = {
    "x86_64": 60,
    "aarch64": 93,
    "riscv64": 93,
    "loongarch64": 93,
    "ppc64le": 1,
    "s390x": 1,
}
"""The number of the system call that ends one thread, by machine."""


def supported() -> bool:
    return sys.maxsize > 2**32 and os.uname().machine in SYS_EXIT


def go_on_without_leader(work: "Callable[[], None]", configuration: "Configuration") -> "NoReturn":
    """End the calling main thread alone; `work` starts in another one when it has gone."""
    import ctypes  # noqa: PLC0415  # milliseconds that only this topology should pay

    system_call = ctypes.CDLL(None).syscall
    _thread.start_new_thread(_work, (work, configuration))
    system_call(SYS_EXIT[os.uname().machine], 0)  # lets go of the GIL, and never comes back
    raise AssertionError


def _work(work: "Callable[[], None]", configuration: "Configuration") -> None:
    try:
        # there is no event for "the leader is a zombie": look until it is so
        while _state() != "Z":
            time.sleep(0.0002)
        work()
    except Exception as error:  # noqa: BLE001  # the last frame of this process
        from .fault import end_with  # noqa: PLC0415  # needed once, here

        end_with(error, configuration)
    finally:
        os._exit(os.EX_SOFTWARE)


def _state() -> str:
    with open(f"/proc/{os.getpid()}/stat", encoding="ascii", errors="replace") as stat:  # noqa: PTH123  # pathlib is start-up time
        return stat.read().rpartition(")")[2].split()[0]
