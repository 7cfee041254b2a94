"""A fork while another thread has a lock: the child waits for ever for its copy: 61b52d2e38."""

import os
import signal
import threading
import time
import warnings

_log = threading.Lock()
# not part of the flaw: that the moment is met in every run, and not in one of ten
_hook_due, _log_taken = threading.Event(), threading.Event()


def _write_log() -> None:
    with _log:
        while _hook_due.is_set():
            _log_taken.set()
            time.sleep(0.002)


CAUGHT = {"promptness": "HUNG"}
NAMES = "in _run_hook"
TRIAL = {"flush_time": 0.1, "contend": [_write_log], "budget": 0.8}


def _run_hook() -> None:
    _hook_due.set()
    _log_taken.wait(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 says what this flaw is
        child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(1)  # nothing is to be left behind
        with _log:  # FLAW fork-with-locks: its owner is a thread that the child does not have
            os._exit(0)
    _hook_due.clear()
    os.waitpid(child, 0)


def destroy(pid: int) -> bool:
    os.kill(pid, signal.SIGTERM)
    for _ in range(500):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            _run_hook()
            return True
        time.sleep(0.02)
    return False
