"""A graceful stop that has not come to its end says so, and sends nothing more."""

import psutil

TRIAL = {"on_term": "ignore", "force": False}


def stop_gracefully(process: psutil.Process) -> bool:
    process.terminate()
    try:
        process.wait(0.4)
    except psutil.TimeoutExpired:
        return False
    return True
