"""First the VM, with all the time that it needs; then its helpers, which have nothing to lose."""

import time

import psutil

TRIAL = {
    "flush_time": 0.3,
    "force": True,
    "helpers": 2,
    "helper": {"session", "ignores_term", "holds_lock"},
}


def _ended(process: psutil.Process) -> bool:
    try:
        # a zombie has ended, whenever init comes to reap it
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def destroy(process: psutil.Process) -> bool:
    helpers = process.children(recursive=True)
    process.terminate()
    _, alive = psutil.wait_procs([process], timeout=10)
    for member in (*alive, *helpers):
        member.kill()
    psutil.wait_procs(alive, timeout=5)
    deadline = time.monotonic() + 5
    while not all(_ended(helper) for helper in helpers):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
