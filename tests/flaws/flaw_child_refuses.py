"""The VM says that it can't save and stays, and a graceful stop ends in SIGKILL: redis#10330."""

import psutil

CAUGHT = {"escalation": "KILLED ANYWAY", "data": "DATA LOST"}
NAMES = ("SIGKILL", "it was to be graceful")
TRIAL = {"on_term": "refuse", "force": False}


def save_and_stop(process: psutil.Process) -> None:
    process.terminate()
    try:
        process.wait(0.3)
    except psutil.TimeoutExpired:
        process.kill()  # FLAW child-refuses: it has said why it stays
        process.wait(5)
