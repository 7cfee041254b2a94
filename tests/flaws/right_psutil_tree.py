"""psutil's documented way, for the process and everything below it."""

import psutil

TRIAL = {"flush_time": 0.3, "force": True, "helpers": 2}


def destroy(process: psutil.Process) -> None:
    family = [*process.children(recursive=True), process]
    for member in family:
        member.terminate()
    _, alive = psutil.wait_procs(family, timeout=10)
    for member in alive:
        member.kill()
    psutil.wait_procs(alive, timeout=5)
